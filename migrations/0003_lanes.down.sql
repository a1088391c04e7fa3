DROP TABLE events;
DROP TABLE messages;
DROP TABLE lanes;
DROP TABLE runners;
