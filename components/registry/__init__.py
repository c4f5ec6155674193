"""MLflow runs, registered versions and their aliases, and the ledger of promotions. Nothing else imports mlflow."""
