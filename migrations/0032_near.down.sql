-- The version before makes the month again that it wants ahead, and knows of seals.
SELECT 1;
