CREATE TABLE app (
  name  TEXT PRIMARY KEY,
  state TEXT NOT NULL            -- JSON of the engine's state
) STRICT;

CREATE TABLE release (
  app     TEXT NOT NULL,
  name    TEXT NOT NULL,         -- v1, v2, …
  number  INTEGER NOT NULL,
  created TEXT NOT NULL,
  data    TEXT NOT NULL,
  PRIMARY KEY (app, name)
) STRICT;

CREATE TABLE rollout (
  id      TEXT PRIMARY KEY,
  app     TEXT NOT NULL,
  started TEXT NOT NULL,
  data    TEXT NOT NULL
) STRICT;
CREATE INDEX rollout_app ON rollout (app, started);

CREATE TABLE event (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT,
  time    TEXT NOT NULL,
  app     TEXT NOT NULL,
  rollout TEXT NOT NULL,
  data    TEXT NOT NULL
) STRICT;
CREATE INDEX event_rollout ON event (rollout, seq);
