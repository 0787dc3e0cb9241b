CREATE TABLE token (
  name TEXT PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,     -- SHA-256 of the secret, hex
  data TEXT NOT NULL
) STRICT;
