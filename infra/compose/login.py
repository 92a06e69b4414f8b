"""The login of jobs at MLflow, created once; a later run sets its password anew. Ends with 0 once it works."""

from __future__ import annotations

import os

from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

USER = "v2a"


def main() -> None:
    """Log in as the administrator of the environment, and create or update the user of jobs."""
    password = os.environ["MLFLOW_JOBS_PASSWORD"]
    client = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    try:
        client.create_user(USER, password)
        print(f"MLflow has a new login {USER}")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        client.update_user_password(USER, password)
        print(f"MLflow's login {USER} has the password of .env")


if __name__ == "__main__":
    main()
