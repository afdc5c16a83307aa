//! A request of an example, written as a chain: `scene.request(1, 5).fails(Refused).answers(502)`.

use super::{
    kinds::Kind,
    scene::{Act, Request, Scene, attempt},
};
use crate::event::{ClientRequest, Connection, Event, Time};

/// A request of an example, played act by act, 30 µs each.
pub(super) struct Playing<'a> {
    scene: &'a mut Scene,
    request: Request,
}

impl<'a> Playing<'a> {
    pub(super) fn new(scene: &'a mut Scene, request: Request) -> Self {
        Self { scene, request }
    }

    /// Its client's reply will be reported.
    pub(super) fn watched(mut self) -> Self {
        self.request.client = Some(ClientRequest {
            address: 0xc11e,
            connection: self.request.connection,
        });
        self
    }

    /// An error page led on from here, to another upstream object.
    pub(super) fn led_on(mut self) -> Self {
        self.request.request = self.scene.next_request();
        self.request.is_retry = true;
        self
    }

    /// Nothing happens but that the client gets this.
    pub(super) fn replies(self, status: u16) {
        let _ = self.acts(&[Act::Reply(Some(status))]);
    }

    pub(super) fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.request.line);
        self
    }

    pub(super) fn acts(mut self, acts: &[Act]) -> Self {
        for &act in acts {
            self.scene.wait(30_000);
            self.scene.play(&mut self.request, act);
        }
        self
    }

    /// An attempt fails.
    pub(super) fn fails(self, kind: Kind) -> Self {
        self.acts(&attempt(kind))
    }

    pub(super) fn waits(self, nanoseconds: u64) -> Self {
        self.scene.wait(nanoseconds);
        self
    }

    /// An attempt is answered; its connection is kept alive.
    pub(super) fn served(self) -> Self {
        self.acts(&[Act::Begin, Act::FirstByte])
    }

    /// An attempt is answered, and its connection closed.
    pub(super) fn served_and_closed(self) -> Self {
        self.acts(&[Act::Begin, Act::Record(Kind::Served)])
    }

    /// nginx makes an error answer.
    pub(super) fn answers(self, status: u16) {
        let _ = self.acts(&[Act::Answer(status)]);
    }

    /// The first byte on a connection that was opened at some time before.
    pub(super) fn first_byte_of(mut self, start: Time) {
        self.request.start = start;
        let _ = self.acts(&[Act::FirstByte]);
    }

    /// The request as it is now.
    pub(super) fn under(self) -> Request {
        self.request
    }

    /// The record of an attempt, changed.
    pub(super) fn closes(self, kind: Kind, change: impl FnOnce(&mut Connection)) -> Self {
        let playing = self.acts(&[Act::Begin]);
        playing.scene.wait(30_000);
        let mut connection = kind.connection(&playing.request, playing.scene.now);
        change(&mut connection);
        playing.scene.feed(Event::Connection(Box::new(connection)));
        playing
    }
}
