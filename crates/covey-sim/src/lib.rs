//! Simulated devices, faults, load and the benchmark of Covey.
