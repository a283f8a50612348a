"""`make test` passes these by, as they need other libraries; `make test-neighbours` runs them."""


def pytest_ignore_collect(collection_path, config):
    return None if any("integrations" in argument for argument in config.args) else True
