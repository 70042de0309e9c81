import client_race  # noqa: F401
