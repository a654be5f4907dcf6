"""A school, simulated: whole nodes, students and dashboards in one process, with virtual time and faults by a seed.

``python -m tests.simulation --seeds 10000``. One seed is one school and one course of events, always the same.

==============  ====================================================================================================
module          job
==============  ====================================================================================================
``virtual``     time and random numbers that follow from the seed; who is running
``loop``        the event loop: virtual time, no sockets, no threads
``network``     connections between computers: delay, order, stalls, cuts
``wire``        HTTP and WebSockets from a client's side, over the simulated network
``disk``        a node's files: what is not synced is lost at a power cut, in part or as a whole; errors on demand
``kvs``         a shared store: late, away, unknown outcomes, loses its memory
``pubsub``      a shared pubsub: hints that are lost, late or come twice
``computers``   one node: the program as it is (`appliance.node.Node`), started, stopped, cut off
``students``    a student's tabs; what the server acknowledged
``educators``   dashboards, and an educator who pauses, resumes and writes
``plan``        seed -> school and faults, as data that can be made smaller
``school``      runs a plan
``check``       what must hold, at each moment and at the end
``run``         many seeds; the shortest plan that still fails
``planted``     faults that are planted into the program, to show that the simulation finds them
==============  ====================================================================================================
"""
