"""The catalog of apps, models and versions: what it is (records), and where it is kept (store)."""
