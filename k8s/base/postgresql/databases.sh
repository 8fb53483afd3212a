#!/bin/sh
# Create the role and the databases of MLflow. The image runs this once, on an empty volume. The role owns its databases
# and has no superuser rights. psql reads the password from the environment, because arguments appear in process lists.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password MLFLOW_PASSWORD
CREATE ROLE mlflow LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE mlflow, mlflow_auth FROM PUBLIC;
SQL
