//! How the parts of an exchange move from filter to filter.
//!
//! Each direction is a row of stages, one for each filter, in the order in which the
//! direction passes them. A part waits in a stage until its filter is called with it; then
//! it goes to the next stage, or stays, as the filter says. Behind the last stage parts
//! become events. The rules are those of Envoy's filter manager:
//!
//! - Pause in headers holds everything, and the filter sees no body until it lets go; with
//!   `allow_on_headers_stop_iteration` the headers alone are held, and the body is shown.
//! - Pause in a body keeps what was shown; the next call shows all of it, or, where the
//!   sender is made to wait, only what is new. Letting go passes all of it on without showing
//!   it again.
//! - Trailers are shown even while a body is kept; going on then passes on all that is held.

use super::chain::State;
use super::reply;
use super::stage::{Part, Pause, Stage, action};
use crate::chain::{Direction, Seat, Walk};
use crate::vm::{Callback, join};
use crate::worker::Entrance;
use bytes::Bytes;

impl State {
    // What comes to a stage; behind the last stage it becomes an event.

    pub(super) fn take_headers(&mut self, direction: Direction, at: usize, is_end: bool) {
        if self.is_over(direction) {
            return;
        }
        let Some(stage) = self.stage(direction, at) else {
            return self.send_headers(direction, is_end);
        };
        stage.headers = Part::Waits;
        stage.is_end = is_end;
        self.advance(direction, at);
    }

    pub(super) fn take_data(&mut self, direction: Direction, at: usize, data: Bytes, is_end: bool) {
        if self.is_over(direction) {
            return;
        }
        let Some(stage) = self.stage(direction, at) else {
            return self.send_data(direction, data, is_end);
        };
        stage.is_end |= is_end;
        join(&mut stage.data, data);
        self.advance(direction, at);
    }

    pub(super) fn take_trailers(&mut self, direction: Direction, at: usize) {
        if self.is_over(direction) {
            return;
        }
        let Some(stage) = self.stage(direction, at) else {
            return self.send_trailers(direction);
        };
        stage.trailers = Part::Waits;
        self.advance(direction, at);
    }

    // What a stage does with what it has.

    /// Shows the filter what waits, and passes on what it lets go, until nothing moves.
    fn advance(&mut self, direction: Direction, at: usize) {
        loop {
            if self.is_over(direction) {
                return;
            }
            let Some(stage) = self.stage(direction, at) else { return };
            let is_stopped = stage.pause == Pause::All;
            let has_end = stage.is_end && !stage.was_end_shown;
            if stage.headers == Part::Waits {
                self.show_headers(direction, at);
            } else if is_stopped || stage.headers == Part::Ahead {
                return self.bound(direction, at);
            } else if !stage.data.is_empty() || has_end {
                self.show_body(direction, at);
            } else if stage.trailers == Part::Waits {
                self.show_trailers(direction, at);
            } else {
                return;
            }
            self.obey();
        }
    }

    fn show_headers(&mut self, direction: Direction, at: usize) {
        let seat = self.seat(direction, at);
        if direction == Direction::Request {
            let entrance = self.row.get_mut(seat).map(Seat::entrance);
            let is_refused = match entrance {
                Some(Entrance::Refuse) => true,
                Some(Entrance::Machine(..)) => !self.row.enter(seat),
                _ => false,
            };
            if is_refused {
                self.answer(&reply::refusal());
                return;
            }
        }
        let Some(stage) = self.stage(direction, at) else { return };
        let is_end = stage.is_end;
        stage.headers = Part::Held;
        stage.was_end_shown = is_end;
        let callback = match direction {
            Direction::Request => Callback::RequestHeaders,
            Direction::Response => Callback::ResponseHeaders,
        };
        let Some(answer) = self.call(direction, callback, seat, is_end) else { return };
        let stops_headers_alone = self
            .row
            .get(seat)
            .is_some_and(|seat| seat.filter.config().allow_on_headers_stop_iteration);
        let pause = match answer {
            action::CONTINUE | action::CONTINUE_AND_END => Pause::No,
            action::STOP if stops_headers_alone => Pause::Headers,
            _ => Pause::All,
        };
        if pause == Pause::No {
            return self.pass_headers(direction, at);
        }
        if let Some(stage) = self.stage(direction, at) {
            stage.pause = pause;
            stage.is_bounded = answer == action::STOP_ALL_AND_BUFFER;
        }
    }

    fn show_body(&mut self, direction: Direction, at: usize) {
        let seat = self.seat(direction, at);
        let Some(stage) = self.stage(direction, at) else { return };
        let (data, is_end) = (std::mem::take(&mut stage.data), stage.is_end);
        stage.was_end_shown |= is_end;
        let callback = match direction {
            Direction::Request => Callback::RequestBody,
            Direction::Response => Callback::ResponseBody,
        };
        self.hold(direction, seat, data, is_end);
        let Some(answer) = self.call(direction, callback, seat, is_end) else { return };
        if is_end {
            self.find_trailers(direction, at);
        }
        let shown_again = match answer {
            action::CONTINUE => return self.pass_held(direction, at),
            action::STOP_NO_BUFFER => {
                drop(self.held(direction, seat));
                Bytes::new()
            }
            action::STOP_AND_WATERMARK => {
                self.keep(direction, at);
                Bytes::new()
            }
            _ => self.all_held(direction, at).unwrap_or_default(),
        };
        // The end, if that was it, still goes on one day.
        self.hold(direction, seat, shown_again, is_end);
        let is_bounded = answer != action::STOP_AND_WATERMARK;
        if let Some(stage) = self.stage(direction, at) {
            stage.is_bounded = is_bounded;
            if stage.pause != Pause::Headers {
                stage.pause = Pause::Body;
            }
        }
        if is_bounded && self.held_bytes(direction, seat).unwrap_or(0) > self.buffer_bytes {
            self.answer(&reply::too_large(direction));
        }
    }

    /// A filter may add trailers at a body's end: then the end is behind those.
    fn find_trailers(&mut self, direction: Direction, at: usize) {
        let has_trailers = {
            let exchange = self.row.exchange.borrow();
            match direction {
                Direction::Request => exchange.request_trailers.is_some(),
                Direction::Response => exchange.response_trailers.is_some(),
            }
        };
        if let Some(stage) = self.stage(direction, at).filter(|_| has_trailers)
            && stage.trailers == Part::Ahead
        {
            (stage.is_end, stage.was_end_shown) = (false, false);
            stage.trailers = Part::Held;
        }
    }

    fn show_trailers(&mut self, direction: Direction, at: usize) {
        let seat = self.seat(direction, at);
        if let Some(stage) = self.stage(direction, at) {
            stage.trailers = Part::Held;
        }
        let callback = match direction {
            Direction::Request => Callback::RequestTrailers,
            Direction::Response => Callback::ResponseTrailers,
        };
        let Some(answer) = self.call(direction, callback, seat, true) else { return };
        if answer == action::CONTINUE {
            return self.pass_held(direction, at);
        }
        if let Some(stage) = self.stage(direction, at) {
            stage.pause = Pause::Trailers;
        }
    }

    /// Calls a filter. Continue, if it is not there to be called; `None` if nothing goes on
    /// in this direction: it failed, or answered.
    fn call(
        &mut self,
        direction: Direction,
        callback: Callback,
        seat: usize,
        is_end: bool,
    ) -> Option<u32> {
        let Some((vm, id)) = self.row.with(seat, callback) else {
            return Some(action::CONTINUE);
        };
        let answer = match callback {
            Callback::RequestHeaders => vm.on_request_headers(id, is_end),
            Callback::RequestBody => vm.on_request_body(id, is_end),
            Callback::RequestTrailers => vm.on_request_trailers(id),
            Callback::ResponseHeaders => vm.on_response_headers(id, is_end),
            Callback::ResponseBody => vm.on_response_body(id, is_end),
            Callback::ResponseTrailers => vm.on_response_trailers(id),
            _ => Ok(action::CONTINUE),
        };
        if answer.is_err() {
            self.fail(seat);
        }
        self.obey_ends();
        answer.ok().filter(|_| !self.is_over(direction))
    }

    /// A filter lets go of what it holds.
    pub(super) fn resume(&mut self, direction: Direction, seat: usize) {
        let at = self.seat(direction, seat); // The same both ways.
        let Some(stage) = self.stage(direction, at) else { return };
        match stage.pause {
            Pause::No => {}
            Pause::All => {
                stage.pause = Pause::No;
                self.pass_headers(direction, at);
            }
            Pause::Headers | Pause::Body | Pause::Trailers => self.pass_held(direction, at),
        }
        self.advance(direction, at);
    }

    /// Goes on without a filter that failed.
    pub(super) fn skip(&mut self, direction: Direction, seat: usize) {
        let at = self.seat(direction, seat);
        self.pass_held(direction, at);
        self.advance(direction, at);
    }

    fn pass_headers(&mut self, direction: Direction, at: usize) {
        let Some(stage) = self.stage(direction, at) else { return };
        if stage.headers != Part::Held {
            return;
        }
        stage.headers = Part::Gone;
        // The end goes with the headers only if nothing came behind them.
        let is_end = stage.is_end && stage.was_end_shown && stage.trailers == Part::Ahead;
        let is_alone = stage.data.is_empty() && !self.is_held(direction, at);
        self.take_headers(direction, at + 1, is_end && is_alone);
    }

    /// Passes on everything that the filter was shown, in order.
    fn pass_held(&mut self, direction: Direction, at: usize) {
        self.pass_headers(direction, at);
        let held = self.all_held(direction, at);
        let Some(stage) = self.stage(direction, at) else { return };
        stage.pause = Pause::No;
        let (is_end, trailers) = (stage.was_end_shown, stage.trailers);
        if let Some(data) = held {
            self.take_data(direction, at + 1, data, is_end);
        }
        if trailers == Part::Held {
            if let Some(stage) = self.stage(direction, at) {
                stage.trailers = Part::Gone;
            }
            self.take_trailers(direction, at + 1);
        }
    }

    // What a filter was shown of a body and may change.

    fn hold(&self, direction: Direction, seat: usize, data: Bytes, is_end: bool) {
        if let Some(seat) = self.row.get(seat) {
            seat.hold(direction, data, is_end);
        }
    }

    fn held(&self, direction: Direction, seat: usize) -> Option<Bytes> {
        self.row.get(seat)?.take_held(direction)
    }

    /// Keeps what the filter was shown, where it does not see it again.
    fn keep(&mut self, direction: Direction, at: usize) {
        let all = self.all_held(direction, at).unwrap_or_default();
        if let Some(stage) = self.stage(direction, at) {
            stage.kept = all;
        }
    }

    /// Takes what is kept and what the filter sees, together.
    fn all_held(&mut self, direction: Direction, at: usize) -> Option<Bytes> {
        let seat = self.seat(direction, at);
        let held = self.held(direction, seat)?;
        let mut all = self.stage(direction, at).map(|stage| std::mem::take(&mut stage.kept))?;
        join(&mut all, held);
        Some(all)
    }

    fn is_held(&self, direction: Direction, at: usize) -> bool {
        self.held_bytes(direction, self.seat(direction, at)).is_some()
    }

    fn held_bytes(&self, direction: Direction, seat: usize) -> Option<usize> {
        self.row.get(seat)?.held_bytes(direction)
    }

    /// Ends an exchange whose filter wanted everything kept, and that became too much.
    fn bound(&mut self, direction: Direction, at: usize) {
        let limit = self.buffer_bytes;
        let Some(stage) = self.stage(direction, at) else { return };
        if stage.pause == Pause::All && stage.is_bounded && stage.data.len() > limit {
            self.answer(&reply::too_large(direction));
        }
    }

    fn stage(&mut self, direction: Direction, at: usize) -> Option<&mut Stage> {
        if at >= self.row.len() {
            return None;
        }
        let seat = self.seat(direction, at);
        self.row.get_mut(seat).map(|seat| seat.lane_mut(direction))
    }

    /// Which seat a stage belongs to: responses pass the filters in reverse.
    fn seat(&self, direction: Direction, at: usize) -> usize {
        match direction {
            Direction::Request => at,
            Direction::Response => self.row.len().saturating_sub(at + 1),
        }
    }
}
