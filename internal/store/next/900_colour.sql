-- What a version after this one would add: a column of an old table and a table of its own.
ALTER TABLE event ADD COLUMN colour TEXT;
CREATE TABLE colour (name TEXT PRIMARY KEY);
