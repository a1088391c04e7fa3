DROP TRIGGER messages_counted ON messages;
DROP TRIGGER messages_recounted ON messages;
DROP TRIGGER users_counted ON users;
DROP FUNCTION kurir_count_messages();
DROP FUNCTION kurir_count_users();
DROP INDEX sessions_status;
DROP TABLE analytics_counts;
DROP TABLE analytics_changes;
