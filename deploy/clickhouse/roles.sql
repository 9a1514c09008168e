-- Roles with the least rights, one for each part of Meterfold, on the database `meterfold`. Run once by an administrator;
-- safe to repeat. users.sql gives them to users. docs/security.md says what each can do.

CREATE ROLE IF NOT EXISTS meterfold_migrate;
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER TABLE, ALTER VIEW, SELECT ON meterfold.* TO meterfold_migrate;
GRANT INSERT ON meterfold.schema_migrations TO meterfold_migrate;
GRANT INSERT ON meterfold.fold_settings TO meterfold_migrate;
GRANT SELECT ON system.tables TO meterfold_migrate;
GRANT SELECT ON system.columns TO meterfold_migrate;

CREATE ROLE IF NOT EXISTS meterfold_fold;
GRANT SELECT ON meterfold.* TO meterfold_fold;
GRANT INSERT ON meterfold.usage_records TO meterfold_fold;
GRANT INSERT ON meterfold.usage_duplicates TO meterfold_fold;
GRANT INSERT ON meterfold.usage_rejected TO meterfold_fold;
GRANT INSERT ON meterfold.usage_windows TO meterfold_fold;
GRANT INSERT ON meterfold.fold_progress TO meterfold_fold;
GRANT INSERT ON meterfold.identity_tables TO meterfold_fold;
GRANT INSERT ON meterfold.schema_decisions TO meterfold_fold;

CREATE ROLE IF NOT EXISTS meterfold_check;
GRANT SELECT ON meterfold.* TO meterfold_check;
GRANT INSERT ON meterfold.metric_definitions TO meterfold_check;
GRANT INSERT ON meterfold.thresholds TO meterfold_check;
GRANT INSERT ON meterfold.threshold_events TO meterfold_check;
GRANT INSERT ON meterfold.alert_actions TO meterfold_check;
GRANT INSERT ON meterfold.mirror_progress TO meterfold_check;

-- `meterfold notify`
CREATE ROLE IF NOT EXISTS meterfold_notify;
GRANT SELECT ON meterfold.* TO meterfold_notify;
GRANT INSERT ON meterfold.notification_tries TO meterfold_notify;
GRANT INSERT ON meterfold.notification_progress TO meterfold_notify;
GRANT INSERT ON meterfold.notification_endpoints TO meterfold_notify;

-- `meterfold metric`, `threshold`, `alert`, `usage`, `periods`, `schema`, and the Python API.
CREATE ROLE IF NOT EXISTS meterfold_service;
GRANT SELECT ON meterfold.* TO meterfold_service;
GRANT INSERT ON meterfold.schema_decisions TO meterfold_service;
-- `meterfold notify test`, `redeliver` and `enable`.
GRANT INSERT ON meterfold.notification_tries TO meterfold_service;
GRANT INSERT ON meterfold.notification_endpoints TO meterfold_service;
GRANT INSERT ON meterfold.period_closings TO meterfold_service;
GRANT INSERT ON meterfold.closed_windows TO meterfold_service;
GRANT INSERT ON meterfold.closed_dimensions TO meterfold_service;
-- Closing a period recounts it in tables named closing_...
GRANT CREATE TABLE, DROP TABLE, INSERT ON meterfold.closing_* TO meterfold_service;
GRANT SELECT ON system.tables TO meterfold_service;
-- `meterfold token`
GRANT INSERT ON meterfold.api_tokens TO meterfold_service;

-- `meterfold rejected redrive`, which sends events.
CREATE ROLE IF NOT EXISTS meterfold_redrive;
GRANT SELECT ON meterfold.* TO meterfold_redrive;
GRANT INSERT ON meterfold.rejected_redrives TO meterfold_redrive;

-- `meterfold serve`, which offers all of the service and of redriving to whoever has a token for it.
CREATE ROLE IF NOT EXISTS meterfold_serve;
GRANT SELECT ON meterfold.* TO meterfold_serve;
GRANT INSERT ON meterfold.api_tokens TO meterfold_serve;
GRANT INSERT ON meterfold.api_token_uses TO meterfold_serve;
GRANT INSERT ON meterfold.console_spent TO meterfold_serve;
GRANT INSERT ON meterfold.proofs TO meterfold_serve;
GRANT INSERT ON meterfold.notification_tries TO meterfold_serve;
GRANT INSERT ON meterfold.notification_endpoints TO meterfold_serve;
GRANT INSERT ON meterfold.rejected_redrives TO meterfold_serve;
GRANT INSERT ON meterfold.period_closings TO meterfold_serve;
GRANT INSERT ON meterfold.closed_windows TO meterfold_serve;
GRANT INSERT ON meterfold.closed_dimensions TO meterfold_serve;
GRANT CREATE TABLE, DROP TABLE, INSERT ON meterfold.closing_* TO meterfold_serve;
GRANT CREATE TABLE, DROP TABLE, INSERT ON meterfold.verify_* TO meterfold_serve;
GRANT SELECT ON system.tables TO meterfold_serve;

-- `meterfold verify` compares in tables named verify_... and recounts closed periods in tables named closing_...
CREATE ROLE IF NOT EXISTS meterfold_verify;
GRANT SELECT ON meterfold.* TO meterfold_verify;
GRANT CREATE TABLE, DROP TABLE, INSERT ON meterfold.verify_* TO meterfold_verify;
GRANT CREATE TABLE, DROP TABLE, INSERT ON meterfold.closing_* TO meterfold_verify;
GRANT SELECT ON system.tables TO meterfold_verify;

-- `meterfold backup create`, `list` and `check`, which reads a backup in a database named meterfold_check_... A restore
-- needs an administrator. Grant the source that your destination uses: DISK, S3 or FILE.
CREATE ROLE IF NOT EXISTS meterfold_backup;
GRANT SELECT, BACKUP ON meterfold.* TO meterfold_backup;
GRANT INSERT ON meterfold.backups TO meterfold_backup;
GRANT SELECT ON system.tables TO meterfold_backup;
GRANT SELECT ON system.backups TO meterfold_backup;
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP DATABASE, DROP TABLE, DROP VIEW ON meterfold_check_*.* TO meterfold_backup;
GRANT SELECT, INSERT, ALTER DELETE, TRUNCATE ON meterfold_check_*.* TO meterfold_backup;
GRANT READ, WRITE ON S3 TO meterfold_backup;
GRANT READ, WRITE ON DISK TO meterfold_backup;

-- Every organization, for Grafana and analysts. readonly = 2 lets clients choose settings, such as a shorter time limit.
CREATE ROLE IF NOT EXISTS meterfold_read_all SETTINGS readonly = 2, max_execution_time = 60 MIN 1 MAX 300;
GRANT SELECT ON meterfold.* TO meterfold_read_all;

-- One organization: organization.sql makes its users and the policies that hide the rows of all others. The grants are
-- the views of usage and what these views read.
CREATE ROLE IF NOT EXISTS meterfold_read SETTINGS readonly = 2, max_execution_time = 30 MIN 1 MAX 60;
GRANT SELECT ON meterfold.usage_hourly TO meterfold_read;
GRANT SELECT ON meterfold.usage_daily TO meterfold_read;
GRANT SELECT ON meterfold.usage_weekly TO meterfold_read;
GRANT SELECT ON meterfold.usage_monthly TO meterfold_read;
GRANT SELECT ON meterfold.usage_yearly TO meterfold_read;
GRANT SELECT ON meterfold.usage_lifetime TO meterfold_read;
GRANT SELECT ON meterfold.usage_summaries TO meterfold_read;
GRANT SELECT ON meterfold.usage_windows TO meterfold_read;
GRANT SELECT ON meterfold.usage_records TO meterfold_read;
GRANT SELECT ON meterfold.usage_duplicates TO meterfold_read;
GRANT SELECT ON meterfold.usage_rejected TO meterfold_read;
GRANT SELECT ON meterfold.metric_definitions TO meterfold_read;
GRANT SELECT ON meterfold.thresholds TO meterfold_read;
GRANT SELECT ON meterfold.threshold_events TO meterfold_read;
GRANT SELECT ON meterfold.fold_progress TO meterfold_read;
GRANT SELECT ON meterfold.fold_settings TO meterfold_read;

-- Everyone else sees every row: a table with a policy for some users would otherwise show nothing to the others.
CREATE ROW POLICY IF NOT EXISTS meterfold_every_organization ON meterfold.usage_windows USING 1 TO ALL EXCEPT meterfold_read;
CREATE ROW POLICY IF NOT EXISTS meterfold_every_organization ON meterfold.usage_records USING 1 TO ALL EXCEPT meterfold_read;
CREATE ROW POLICY IF NOT EXISTS meterfold_every_organization ON meterfold.usage_duplicates USING 1 TO ALL EXCEPT meterfold_read;
CREATE ROW POLICY IF NOT EXISTS meterfold_every_organization ON meterfold.usage_rejected USING 1 TO ALL EXCEPT meterfold_read;
CREATE ROW POLICY IF NOT EXISTS meterfold_every_organization ON meterfold.metric_definitions USING 1 TO ALL EXCEPT meterfold_read;
CREATE ROW POLICY IF NOT EXISTS meterfold_every_organization ON meterfold.thresholds USING 1 TO ALL EXCEPT meterfold_read;
CREATE ROW POLICY IF NOT EXISTS meterfold_every_organization ON meterfold.threshold_events USING 1 TO ALL EXCEPT meterfold_read;
