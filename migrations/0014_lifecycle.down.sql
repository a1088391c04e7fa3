DROP INDEX messages_unread;
DROP INDEX sessions_ending;
DROP INDEX jobs_logout_key;
DROP INDEX jobs_start_key;
DROP INDEX jobs_stop_key;
