"""The monitor: reads a trainer's statistics, names what is wrong with its evidence, and proposes what to do.

    monitor = pygan.Monitor(trainer)
    for real in loader:
        stats = trainer.step(real)
        for diagnosis in monitor.update(stats):
            print(diagnosis)

docs/monitor.md has the rules, their thresholds, and how far healthy runs stay away from them.
"""

from pygan.monitor.core import Monitor
from pygan.monitor.states import Diagnosis, State

__all__ = ["Diagnosis", "Monitor", "State"]
