//! An exhaustive model of claims, leases, fencing, adoption, cancellation and failover: every interleaving of three
//! workers and two builds, with a few mishaps each.

#[cfg(test)]
mod model;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
