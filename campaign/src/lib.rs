//! What a campaign builds: [`events`] reads launches, [`follow`] reads them from logs that grow, [`rank`] orders what
//! people open, [`source`] and [`names`] say what that means and what `BinderHub` calls its image, [`resolve`] finds the commits,
//! and [`plan`] reads and writes the list of builds.

pub mod events;
pub mod follow;
pub mod lines;
pub mod list;
pub mod names;
pub mod plan;
pub mod planning;
pub mod rank;
pub mod resolve;
pub mod source;
