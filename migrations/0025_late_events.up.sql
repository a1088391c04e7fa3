-- Events of calls and groups have IDs that are made from what the network knows, by which a redelivery is recognised. What comes
-- long after it happened gets a new ID, since streams read by the time in it; the one that it would have had is kept here.
CREATE TABLE late_events (
    key     uuid PRIMARY KEY,
    told_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX late_events_told ON late_events (told_at);
