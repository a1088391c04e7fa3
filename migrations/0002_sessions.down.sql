DROP TABLE worker_metrics;
DROP TABLE api_keys;
DROP TABLE sessions;
DROP TABLE workers;
DROP TRIGGER users_changed ON users;
DROP FUNCTION kurir_notify_user();
