-- The audit trail is read without walking over the activity that stands between its rows.
CREATE INDEX event_of_audit ON event (seq) WHERE class = 'audit';
