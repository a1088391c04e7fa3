-- The version before makes the months again that it wants ahead.
SELECT 1;
