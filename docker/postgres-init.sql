-- Run once, when the database's volume is empty. Each program gets a role that owns its own databases and no others.
SET log_min_error_statement TO panic; -- an error must not print a password into the log
\getenv ledger_password LEDGER_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
CREATE ROLE ledger LOGIN PASSWORD :'ledger_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE ledger OWNER ledger;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE ALL ON DATABASE postgres, ledger, mlflow, mlflow_auth FROM PUBLIC;
