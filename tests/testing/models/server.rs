//! What a server promises, in its table of states, and clients that come and go.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use evloop::testing::Random;
use evloop::{Address, LoopHandle, Protocol, Server, Task, Transport, create_connection, sleep};

use crate::models::scene::Pace;
use crate::models::transport::State;
use crate::models::walked::Walked;
use crate::models::watch::{Judgement, Watch, complain_if};

/// What is done to a server, or by its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    StartServing,
    /// A task begins to await `serve_forever`.
    ServeForever,
    /// It is cancelled.
    StopForever,
    Close,
    CloseClients,
    AbortClients,
    Connect,
    /// One of the clients goes.
    Leave(usize),
    /// One of them goes without a word.
    Vanish(usize),
    Sleep(u64),
    /// Everything that has to happen does.
    Settle,
}

impl Step {
    pub(crate) fn make(random: &mut Random) -> Self {
        match random.below(100) {
            0..10 => Self::StartServing,
            10..14 => Self::ServeForever,
            14..16 => Self::StopForever,
            16..19 => Self::Close,
            19..23 => Self::CloseClients,
            23..26 => Self::AbortClients,
            26..58 => Self::Connect,
            58..70 => Self::Leave(random.below(100)),
            70..75 => Self::Vanish(random.below(100)),
            75..90 => Self::Sleep(random.within(0..=20) as u64),
            _ => Self::Settle,
        }
    }
}

/// A server, as it has to be.
struct Model {
    life: State,
    max_connections: usize,
    /// Somebody awaits `serve_forever`.
    forever: bool,
    /// Connections of its that were made, and not lost.
    active: usize,
}

impl Model {
    /// What `start_serving` says.
    fn start_serving(&mut self) -> Result<Option<io::ErrorKind>, String> {
        if self.life.is("Closed") {
            return Ok(Some(io::ErrorKind::NotConnected));
        }
        if self.life.is("Bound") {
            self.life.step("Listen")?;
        }
        Ok(None)
    }

    /// What `serve_forever` says at once, if anything.
    fn serve_forever(&mut self) -> Result<Option<io::ErrorKind>, String> {
        if self.forever && !self.life.is("Closed") {
            return Ok(Some(io::ErrorKind::ResourceBusy));
        }
        let refused = self.start_serving()?;
        self.forever = refused.is_none();
        Ok(refused)
    }

    fn close(&mut self) -> Judgement {
        self.forever = false;
        self.life.step("Close")
    }

    fn is_over(&self) -> bool {
        self.life.is("Closed") && self.active == 0
    }

    /// How many connections there are when everything has happened, of so many clients.
    fn settled(&self, clients: usize) -> usize {
        match self.life.is("Serving") {
            true => clients.min(self.max_connections),
            // Who was not accepted is sent away.
            false => clients,
        }
    }
}

/// A server, its clients, and the model that watches.
pub(crate) struct Scene {
    model: RefCell<Model>,
    calm: bool,
    /// The clients' ends.
    clients: RefCell<Vec<Transport>>,
    /// How many of them are not lost.
    alive: Cell<usize>,
    /// What those who have awaited the server's end have seen.
    over: Cell<bool>,
    forever: RefCell<Option<Task<io::Result<()>>>>,
    watch: Watch,
}

/// One end of a connection.
struct End {
    scene: Rc<Scene>,
    served: bool,
}

impl Scene {
    pub(crate) fn new(max_connections: usize, calm: bool, walked: &Walked) -> Rc<Self> {
        Rc::new(Self {
            model: RefCell::new(Model {
                life: State::first_of("ServerLife", walked),
                max_connections,
                forever: false,
                active: 0,
            }),
            calm,
            clients: RefCell::default(),
            alive: Cell::new(0),
            over: Cell::new(false),
            forever: RefCell::default(),
            watch: Watch::default(),
        })
    }

    /// The protocol of the server's.
    pub(crate) fn protocol(self: &Rc<Self>) -> impl Protocol + use<> {
        let scene = Rc::clone(self);
        End {
            scene,
            served: true,
        }
    }

    /// Does it all, on the server's loop. `there` is the clients'.
    pub(crate) async fn play(
        self: &Rc<Self>,
        server: &Server,
        there: &LoopHandle,
        steps: &[Step],
        pace: &Pace,
    ) -> Result<(), String> {
        let address = server.sockets().remove(0);
        let (scene, waited) = (Rc::clone(self), server.clone());
        let waiting = evloop::get_running_loop().unwrap().create_task(async move {
            waited.wait_closed().await.unwrap();
            scene.over.set(true);
            let over = scene.model.borrow().is_over();
            scene.complain_unless(over, "wait_closed came too early");
        });
        drop(waiting);
        for step in steps {
            let done = self.act(*step, server, there, &address, pace).await;
            self.complain_of(*step, done);
            self.compare(server);
            self.watch.verdict()?;
        }
        let done = self.act(Step::Settle, server, there, &address, pace).await;
        self.complain_of(Step::Settle, done);
        server.close();
        server.abort_clients();
        self.complain_of(Step::Close, self.model.borrow_mut().close());
        let over = self.watch.until(pace.patience, || self.over.get()).await;
        self.complain_unless(over, "wait_closed did not come");
        for client in self.clients.take() {
            drop(there.call_soon(move || client.abort()));
        }
        let gone = self
            .watch
            .until(pace.patience, || self.alive.get() == 0)
            .await;
        self.complain_unless(gone, "a client is left");
        self.watch.verdict()
    }

    async fn act(
        self: &Rc<Self>,
        step: Step,
        server: &Server,
        there: &LoopHandle,
        address: &Address,
        pace: &Pace,
    ) -> Judgement {
        match step {
            Step::StartServing => {
                let outcome = server.start_serving().await;
                same(outcome, self.model.borrow_mut().start_serving()?)?;
            }
            Step::ServeForever => {
                let mut forever = Box::pin(server.serve_forever());
                let first = poll_fn(|cx| Poll::Ready(forever.as_mut().poll(cx))).await;
                let expected = self.model.borrow_mut().serve_forever()?;
                match first {
                    Poll::Ready(outcome) => same(outcome, expected)?,
                    Poll::Pending if expected.is_some() => {
                        return Err("serve_forever was not refused".to_owned());
                    }
                    Poll::Pending => {
                        let task = evloop::get_running_loop().unwrap().create_task(forever);
                        drop(self.forever.borrow_mut().replace(task));
                    }
                }
            }
            Step::StopForever => {
                let task = self.forever.borrow_mut().take();
                if let Some(task) = task {
                    // It closes the server, or the server has closed it.
                    self.model.borrow_mut().close()?;
                    task.cancel();
                    drop(task.await);
                }
            }
            Step::Close => {
                server.close();
                self.model.borrow_mut().close()?;
            }
            Step::CloseClients => server.close_clients(),
            Step::AbortClients => server.abort_clients(),
            Step::Connect => self.connect(there, address, pace).await?,
            Step::Leave(which) => self.with_client(there, which, Transport::close),
            Step::Vanish(which) => self.with_client(there, which, Transport::abort),
            Step::Sleep(ticks) => drop(sleep(pace.tick * (ticks as u32)).await),
            Step::Settle if self.calm => {
                let settled = self.watch.until(pace.patience, || {
                    let model = self.model.borrow();
                    let all = model.active == model.settled(self.alive.get());
                    all && self.over.get() == model.is_over()
                });
                if !settled.await {
                    let (active, alive) = (self.model.borrow().active, self.alive.get());
                    return Err(format!("{active} connections of {alive} clients"));
                }
            }
            Step::Settle => {}
        }
        Ok(())
    }

    /// A client comes, and is connected or refused.
    async fn connect(
        self: &Rc<Self>,
        there: &LoopHandle,
        address: &Address,
        pace: &Pace,
    ) -> Judgement {
        let outcome = Rc::new(RefCell::new(None));
        let (scene, told) = (Rc::clone(self), Rc::clone(&outcome));
        let (ip, port) = (address.ip().unwrap(), address.port().unwrap());
        drop(there.create_task(async move {
            let end = Rc::clone(&scene);
            let connected = create_connection(
                move || End {
                    scene: end,
                    served: false,
                },
                (ip.to_string().as_str(), port),
            );
            let connected = connected.await.map(|(client, _)| {
                scene.clients.borrow_mut().push(client);
            });
            *told.borrow_mut() = Some(connected);
            scene.watch.ring();
        }));
        self.watch
            .until(pace.patience, || outcome.borrow().is_some())
            .await;
        let outcome = outcome.borrow_mut().take();
        let outcome = outcome.ok_or("the connect did not end")?;
        if self.calm {
            // The network may take it away again before it is known.
            let gone =
                matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::ConnectionReset);
            match self.model.borrow().life.is("Serving") {
                true if gone => {}
                true => same(outcome, None)?,
                false => same(outcome, Some(io::ErrorKind::ConnectionRefused))?,
            }
        }
        Ok(())
    }

    fn with_client(&self, there: &LoopHandle, which: usize, f: fn(&Transport)) {
        let mut clients = self.clients.borrow_mut();
        if !clients.is_empty() {
            let place = which % clients.len();
            let client = clients.remove(place);
            drop(there.call_soon(move || f(&client)));
        }
    }

    /// What the server says of itself.
    fn compare(&self, server: &Server) {
        let model = self.model.borrow();
        let (serving, closed) = (model.life.is("Serving"), model.life.is("Closed"));
        drop(model);
        self.complain_unless(server.is_serving() == serving, "is_serving() is wrong");
        self.complain_unless(server.sockets().is_empty() == closed, "sockets() is wrong");
    }

    fn complain_unless(&self, right: bool, complaint: &str) {
        self.watch.judge("server", complain_if(!right, complaint));
    }

    fn complain_of(&self, step: Step, done: Judgement) {
        self.watch.judge(format_args!("{step:?}"), done);
    }
}

impl Protocol for End {
    fn connection_made(&mut self, _: Transport) {
        let scene = &self.scene;
        if !self.served {
            return scene.alive.set(scene.alive.get() + 1);
        }
        let mut model = scene.model.borrow_mut();
        model.active += 1;
        let right = model.active <= model.max_connections;
        drop(model);
        scene.complain_unless(right, "more connections than there may be");
    }

    fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
        let scene = &self.scene;
        match self.served {
            true => scene.model.borrow_mut().active -= 1,
            false => scene.alive.set(scene.alive.get() - 1),
        }
        scene.complain_unless(!scene.over.get() || !self.served, "one after the last");
    }
}

fn same(outcome: io::Result<()>, expected: Option<io::ErrorKind>) -> Judgement {
    let error = outcome.map_err(|error| error.kind()).err();
    match error == expected {
        true => Ok(()),
        false => Err(format!("{error:?} instead of {expected:?}")),
    }
}
