-- A reader of one organization: replace acme, and the password. Run after roles.sql.
-- Rows of other organizations do not exist for this user, in the views as well: a view reads with the rights of its
-- reader. Definitions without an organization apply to every organization, so every reader sees them.
CREATE USER IF NOT EXISTS `meterfold-read-acme` IDENTIFIED WITH sha256_password BY 'replace this password'
    DEFAULT ROLE meterfold_read;
GRANT meterfold_read TO `meterfold-read-acme`;

CREATE ROW POLICY IF NOT EXISTS meterfold_acme ON meterfold.usage_windows USING org_id = 'acme' TO `meterfold-read-acme`;
CREATE ROW POLICY IF NOT EXISTS meterfold_acme ON meterfold.usage_records USING org_id = 'acme' TO `meterfold-read-acme`;
CREATE ROW POLICY IF NOT EXISTS meterfold_acme ON meterfold.usage_duplicates USING org_id = 'acme' TO `meterfold-read-acme`;
CREATE ROW POLICY IF NOT EXISTS meterfold_acme ON meterfold.usage_rejected USING org_id = 'acme' TO `meterfold-read-acme`;
CREATE ROW POLICY IF NOT EXISTS meterfold_acme ON meterfold.metric_definitions USING org_id IN ('acme', '') TO `meterfold-read-acme`;
CREATE ROW POLICY IF NOT EXISTS meterfold_acme ON meterfold.thresholds USING org_id = 'acme' OR org_id IS NULL TO `meterfold-read-acme`;
CREATE ROW POLICY IF NOT EXISTS meterfold_acme ON meterfold.threshold_events USING org_id = 'acme' TO `meterfold-read-acme`;
