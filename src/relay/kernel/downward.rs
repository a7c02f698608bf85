//! Backend to client: bytes go through a pipe into the socket, where the kernel makes records of them. This direction
//! alone changes our keys and says close_notify, between two pipefuls.

use super::super::Host;
use super::super::end::Cause;
use super::super::transfer::DirectionEnd;
use super::By;
use super::transfer::{KernelTransfer, Misses};
use super::upward::is_final;
use crate::config::limits;
use crate::sys::Interest;
use crate::sys::ktls::{ALERT, DATA, Direction, HANDSHAKE};
use crate::sys::splice::Pipe;
use crate::wire::audit::Path;
use std::io;
use std::pin::pin;
use std::task::Poll;

/// The client can no longer be written to.
struct Gone;

impl<H: Host> KernelTransfer<'_, H> {
    pub(super) async fn downward(&self) -> Result<DirectionEnd, Cause> {
        let misses = Misses::default();
        loop {
            if (self.owed.take() || self.keys_are_used_up()?) && self.change_keys().await?.is_err() {
                return Ok(DirectionEnd::ReceiverGone);
            }
            // Splice stops before a byte of urgent data, which a read steps over.
            let moved = match self.pipe(Direction::Transmit).filter(|_| !misses.repeated()) {
                Some(mut pipe) => self.move_down(&mut pipe).await?,
                None => self.carry_down().await?,
            };
            let Ok(moved) = moved else { return Ok(DirectionEnd::ReceiverGone) };
            match moved {
                Ok(0) if self.marks.backend_broke.get() => return Err(Cause::BackendReset),
                Ok(0) => break,
                Ok(_) => {
                    misses.hit();
                    futures_lite::future::yield_now().await;
                }
                Err(error) if is_final(&error) => return Err(Cause::BackendReset),
                Err(_) => self.wait_or_owe(&misses).await,
            }
        }
        let told = self.say_end().await.is_ok();
        // A client that ended in order and is gone before our own close_notify has missed nothing.
        if !told && !self.marks.upward_done.get() {
            return Ok(DirectionEnd::ReceiverGone);
        }
        self.marks.downward_done.set(true);
        Ok(DirectionEnd::Orderly)
    }

    /// A pipeful from the backend to the client. The inner error is the backend's.
    async fn move_down(&self, pipe: &mut Pipe) -> Result<Result<io::Result<usize>, Gone>, Cause> {
        let enough = pipe.capacity().min(limits::PIPE_FILL_BYTES);
        match pipe.fill(self.backend, enough) {
            // Before a byte of urgent data it is not the end.
            Ok(0) => self.carry_down().await,
            Ok(count) => Ok(self.drain(pipe).await?.map(|()| Ok(count))),
            Err(error) => Ok(Ok(Err(error))),
        }
    }

    /// Empties the pipe into the client's socket.
    async fn drain(&self, pipe: &mut Pipe) -> Result<Result<(), Gone>, Cause> {
        let misses = Misses::default();
        self.marks.sending.set(true);
        while !pipe.is_empty() {
            match pipe.drain(self.client) {
                Ok(moved) if moved > 0 => {
                    misses.hit();
                    self.records.count(moved);
                    self.went_down(Path::Splice, moved);
                }
                Err(error) if is_final(&error) => return self.gone(&error),
                _ => self.wait(self.client, Interest::Write, &misses).await,
            }
        }
        self.marks.sending.set(false);
        Ok(Ok(()))
    }

    /// An error of the TLS layer may come up while sending, and would not come up again while reading.
    fn gone(&self, error: &io::Error) -> Result<Result<(), Gone>, Cause> {
        match self.broken(error) {
            Cause::ClientReset => {
                self.marks.client_broke.set(true);
                Ok(Err(Gone))
            }
            broken => Err(broken),
        }
    }

    /// Without a pipe: one buffer through user space. The inner error is the backend's.
    async fn carry_down(&self) -> Result<Result<io::Result<usize>, Gone>, Cause> {
        let by = self.records.by(Direction::Transmit);
        let mut bytes = self.host.shelf().take();
        bytes.resize(limits::TLS_PLAIN_BYTES_MAX, 0);
        let read = self.backend.receive_now(&mut bytes);
        let count = match read {
            Ok(count) if count > 0 => count,
            nothing => {
                self.host.shelf().give(bytes);
                return Ok(Ok(nothing));
            }
        };
        bytes.truncate(count);
        self.marks.sending.set(true);
        let sent = match by {
            By::Kernel => self.send_all(self.client, &bytes, |part| self.records.count(part)).await,
            By::Us => self.send_sealed(DATA, &bytes).await,
        };
        self.host.shelf().give(bytes);
        if let Err(error) = sent {
            return Ok(self.gone(&error)?.map(|()| Ok(0)));
        }
        self.marks.sending.set(false);
        self.went_down(self.carried(Direction::Transmit), count);
        Ok(Ok(Ok(count)))
    }

    /// Waits for the backend, or for the client's wish for new keys of ours.
    async fn wait_or_owe(&self, misses: &Misses) {
        let mut waiting = pin!(self.wait(self.backend, Interest::Read, misses));
        std::future::poll_fn(|cx| {
            if self.owed.get() {
                return Poll::Ready(());
            }
            let old = self.owed_waker.borrow_mut().replace(cx.waker().clone());
            drop(old);
            waiting.as_mut().poll(cx)
        })
        .await;
    }

    /// Whether so many records were sealed that the keys have to change.
    fn keys_are_used_up(&self) -> Result<bool, Cause> {
        if self.unlooked.get() > 0 {
            return Ok(false);
        }
        let records_max = self.records_max();
        let sealed = self.records.sealed().map_err(|error| {
            let detail = format!("the kernel does not tell how many records it sealed: {error}");
            Cause::Tls { our_alert: None, peer_alert: None, detail }
        })?;
        // A pipeful has fewer bytes than this, and so fewer records.
        let margin = limits::RECORDS_MARGIN.min(records_max / 16);
        let left = records_max.saturating_sub(sealed).saturating_sub(margin);
        self.unlooked.set(left);
        if left > 0 {
            return Ok(false);
        }
        if self.session.borrow().changes_keys() && !self.records.can_change_ours() {
            return Err(self.cannot_change("our keys are used up"));
        }
        if !self.session.borrow().changes_keys() {
            let detail = "the keys of this TLS 1.2 connection are used up; clients of TLS 1.3 change theirs".to_owned();
            return Err(Cause::Tls { our_alert: None, peer_alert: None, detail });
        }
        Ok(true)
    }

    fn records_max(&self) -> u64 {
        #[cfg(debug_assertions)]
        if let Some(records_max) = super::super::fault::records_max() {
            return records_max;
        }
        self.session.borrow().records_max()
    }

    /// Says KeyUpdate, and goes on under the next keys. No record can come between: nobody else sends meanwhile.
    async fn change_keys(&self) -> Result<Result<(), Gone>, Cause> {
        const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
        if let Err(error) = self.send(HANDSHAKE, &KEY_UPDATE).await {
            return self.gone(&error);
        }
        let keys = self.session.borrow_mut().next_transmit_keys().map_err(|failure| Cause::Tls {
            our_alert: None,
            peer_alert: None,
            detail: failure.detail.clone(),
        })?;
        // From the KeyUpdate on nothing may go under the old keys, not even an alert.
        let changed = self.records.change(Direction::Transmit, &keys);
        changed.map_err(|detail| Cause::Tls { our_alert: None, peer_alert: None, detail })?;
        self.host.key_updated(Direction::Transmit);
        self.unlooked.set(0);
        Ok(Ok(()))
    }

    /// A control record, as soon as there is room.
    async fn send(&self, kind: u8, body: &[u8]) -> io::Result<()> {
        if self.records.by(Direction::Transmit) == By::Us {
            return self.send_sealed(kind, body).await;
        }
        let misses = Misses::default();
        loop {
            match self.records.send(self.client, kind, body) {
                Err(error) if !is_final(&error) => self.wait(self.client, Interest::Write, &misses).await,
                other => return other,
            }
        }
    }

    /// Seals records here and sends them whole. Nothing else is sealed meanwhile.
    async fn send_sealed(&self, kind: u8, body: &[u8]) -> io::Result<()> {
        let sending = self.marks.sending.replace(true);
        self.records.seal(kind, body, || self.host.shelf().take())?;
        let (misses, mut before) = (Misses::default(), usize::MAX);
        loop {
            let left = self.records.flush(self.client)?;
            if left == 0 {
                break;
            }
            if left < before {
                misses.hit();
            }
            before = left;
            self.wait(self.client, Interest::Write, &misses).await;
        }
        self.host.shelf().give(self.records.take_room());
        self.marks.sending.set(sending);
        Ok(())
    }

    /// close_notify and FIN. The kernel keeps sealed records apart from TCP's queue, and a FIN would overtake them.
    async fn say_end(&self) -> io::Result<()> {
        self.marks.sending.set(true);
        self.send(ALERT, &[1, 0]).await?;
        let misses = Misses::default();
        while !self.records.is_flushed()? {
            // The kernel moves them on when there is room; a client that does not read is not asked about again and again.
            self.wait(self.client, Interest::Write, &misses).await;
        }
        self.client.shutdown_send()?;
        self.marks.sending.set(false);
        Ok(())
    }
}
