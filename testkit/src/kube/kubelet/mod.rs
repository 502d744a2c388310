//! The kubelets: pods that are really run, as local processes.

mod containers;
mod log;
mod places;
mod pod;
mod prepare;
mod process;
mod view;

pub(super) use log::{ContainerLog, Piece};
pub(super) use pod::{Order, run};
pub(super) use process::Groups;
