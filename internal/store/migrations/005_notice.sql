CREATE TABLE notice (
  seq    INTEGER PRIMARY KEY AUTOINCREMENT,
  key    TEXT NOT NULL,          -- of the event: told once per target
  target TEXT NOT NULL,          -- who is told
  app    TEXT NOT NULL,
  made   TEXT NOT NULL,
  due    TEXT NOT NULL,          -- when it is tried next; '': it is over
  data   TEXT NOT NULL,
  UNIQUE (target, key)
) STRICT;
CREATE INDEX notice_due ON notice (due) WHERE due <> '';
