"""The monitor: detects problems in a trainer's statistics, gives the evidence, and proposes a remedy.

    monitor = pygan.Monitor(trainer)
    for real in loader:
        stats = trainer.step(real)
        for diagnosis in monitor.update(stats):
            print(diagnosis)

docs/monitor.md lists the rules, their thresholds, and the margins of healthy runs.
"""

from pygan.monitor.core import Monitor
from pygan.monitor.states import Diagnosis, State

__all__ = ["Diagnosis", "Monitor", "State"]
