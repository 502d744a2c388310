//! The kubelets: really run pods, as local processes.

mod containers;
mod log;
mod mounts;
mod order;
mod pod;
mod prepare;
mod process;
mod view;

pub(super) use log::{ContainerLog, Piece};
pub(super) use order::Order;
pub(super) use pod::run;
pub(super) use process::Groups;
