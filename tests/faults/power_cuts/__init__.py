"""Power cuts, simulated: an appliance's heart on a file system that forgets what was not synced.

==================  =====================================================================================
module              job
==================  =====================================================================================
``disk``            the model of a disk: what is only cached, what is durable, what a power cut leaves
``troubles``        operations that fail on demand, and the operation at which the power is cut
``file_system``     the FUSE file system that shows such a disk; a process of its own
``mounted``         starts, controls and ends that process
``heart``           an appliance without network on such a file system
``model``           students and an educator, and what they were answered: the model to compare with
``schedule``        one seed: what happens, when the power is cut, what is checked
``determinism``     clock, chance and threads that are the same in each run of a seed
``wrong_builds``    the program with a deliberate fault, which the harness has to find
==================  =====================================================================================

``python -m tests.faults.power_cuts --seeds 1000 --first 1`` cuts the power that often.
"""
