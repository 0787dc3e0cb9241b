CREATE TABLE audit (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT,
  time    TEXT NOT NULL,
  app     TEXT NOT NULL,
  rollout TEXT NOT NULL,
  data    TEXT NOT NULL
) STRICT;
CREATE INDEX audit_time ON audit (time);
CREATE INDEX audit_rollout ON audit (rollout, seq);
