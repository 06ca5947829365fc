//! The instant of a judgement. Every comparison with it goes through here, so that the verdict knows until when all of
//! them come out the same, without anybody having to work that out.

use std::cell::Cell;

use jiff::Timestamp;

pub(crate) struct Clock {
    now: Timestamp,
    next: Cell<Option<Timestamp>>,
}

impl Clock {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { now, next: Cell::new(None) }
    }

    /// Whether it is `instant` or later.
    pub(crate) fn reached(&self, instant: Timestamp) -> bool {
        if instant <= self.now {
            return true;
        }
        let next = self.next.get().map_or(instant, |next| next.min(instant));
        self.next.set(Some(next));
        false
    }

    /// The first instant at which something that was asked would be answered differently.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.next.get()
    }
}
