//! One snapshot of the running state, and every text made from it.
