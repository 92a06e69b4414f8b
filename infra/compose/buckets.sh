#!/bin/sh
# Buckets, and two users that each have the rights of a policy and no more. Runs before everything else, as MinIO's root.
set -eu
mc alias set s3 "$S3_ENDPOINT" "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" > /dev/null
for bucket in films dubbed mlflow; do
    mc mb --ignore-existing "s3/$bucket"
done
mc admin user add s3 v2a-jobs "$S3_JOBS_PASSWORD"
mc admin user add s3 v2a-mlflow "$S3_MLFLOW_PASSWORD"
for user in jobs mlflow; do
    mc admin policy create s3 "v2a-$user" "/policies/$user-policy.json"
    # Attaching what is attached is an error, and so is detaching what is not.
    mc admin policy detach s3 "v2a-$user" --user "v2a-$user" > /dev/null 2>&1 || true
    mc admin policy attach s3 "v2a-$user" --user "v2a-$user"
done
