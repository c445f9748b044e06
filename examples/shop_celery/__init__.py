"""The shop's tasks on Celery."""
