//! A run's lines on their way into its log.
//!
//! Bytes are split into lines, a line is kept in a buffer, and the pump writes the buffer to Redis in batches. The
//! buffer is bounded. While it is full, a source that can wait is not read; of one that cannot, lines are
//! dropped, and the log says how many are missing. While Redis is away the pump tries again and again, and
//! nothing is lost that fits the buffer.
//!
//! Only the holder of the lease writes. A run that outlives its worker is read from its source again by the next
//! holder, which first takes the log over: from then on Redis refuses lines of an earlier one.

mod buffer;
pub(crate) mod lines;
pub(crate) mod pump;
