DROP TABLE late_events;
