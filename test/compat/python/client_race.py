"""Closes a race inside the official client 0.2.1, which a loaded machine loses now and then.

Its constructor starts the thread that reads the assignments and only then makes the barrier at which that thread meets
it. When the first assignments are faster, the thread dies of an AttributeError and the constructor gives up after 30 s.
Importing this module lets the thread wait for the barrier.
"""

import time

from oxia.internal.service_discovery import ServiceDiscovery

_get_assignments = ServiceDiscovery.get_assignments


def _get_assignments_after_the_barrier(self):
    while not hasattr(self, "_init_barrier"):
        time.sleep(0.001)
    _get_assignments(self)


ServiceDiscovery.get_assignments = _get_assignments_after_the_barrier
