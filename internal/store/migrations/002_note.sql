CREATE TABLE note (
  key  TEXT PRIMARY KEY,
  data TEXT NOT NULL             -- JSON; what the installation remembers of itself
) STRICT;
