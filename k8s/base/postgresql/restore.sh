#!/bin/sh
# Restore both databases from the newest backup, or from the one named by $BACKUP. MLflow must be stopped. Each database is
# restored completely or not at all.
set -eu
chosen=${BACKUP:-$(find "$BACKUPS" -mindepth 1 -maxdepth 1 -type d -name '2*Z' -exec basename {} \; | sort | tail -n 1)}
if [ -z "$chosen" ] || [ ! -f "$BACKUPS/$chosen/mlflow.dump" ]; then
    echo "$BACKUPS/$chosen: no such backup; available: $(find "$BACKUPS" -mindepth 1 -maxdepth 1 -type d -name '2*Z' -exec basename {} \; | sort | tr '\n' ' ')" >&2
    exit 2
fi
for database in mlflow mlflow_auth; do
    pg_restore --clean --if-exists --no-owner --single-transaction --dbname "$database" "$BACKUPS/$chosen/$database.dump"
    echo "$database: restored from $chosen"
done
