"""What schemathesis must not do to the server that it tests: wait for a minute, or revoke the keys in use."""

import schemathesis

WAIT_SECONDS_MAX = 1


@schemathesis.hook
def map_query(context, query):
    """No device answers, so a wait that is in its range would be waited to its end."""
    try:
        if query and float(query["wait"]) > WAIT_SECONDS_MAX and float(query["wait"]) <= 60:
            query["wait"] = WAIT_SECONDS_MAX
    except (KeyError, TypeError, ValueError):
        pass
    return query
