//! A run's lines on their way into its log.
//!
//! Bytes are split into lines, lines are kept in a buffer, and the pump writes the buffer to Redis in batches. The
//! buffer is bounded. While it is full, a source that can wait is not read; if a source cannot wait, lines are
//! dropped, and the log says how many are missing. While Redis is away, the pump keeps retrying, and nothing that
//! fits into the buffer is lost.
//!
//! Only the holder of the lease writes. If a run outlives its worker, the next holder reads it again from its
//! source. First it takes the log over: from then on Redis refuses lines of earlier holders.

mod buffer;
pub(crate) mod lines;
pub(crate) mod pump;
