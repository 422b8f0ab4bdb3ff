//! Generated sequences of operations against models: what is promised holds whatever is done, in
//! whichever order and weather.

mod scene;
mod script;
mod server;
mod streams;
mod transport;
mod walked;
mod watch;

use std::io;
use std::time::Duration;

use evloop::testing::{Conditions, Random, Simulation, explore};
use evloop::{
    EventLoop, create_connection, create_server, create_unix_connection, create_unix_server,
    open_connection, start_server,
};

use crate::models::scene::{Pace, Scene, Step};
use crate::models::script::Script;
use crate::models::walked::Walked;

#[derive(Clone, Copy)]
enum Over {
    Tcp,
    Unix,
}

/// The same seed and the same script are the same run.
fn simulated(
    seed: u64,
    (over, weather, calm): (Over, &Conditions, bool),
    script: &Script<Step>,
    walked: &Walked,
) -> io::Result<Result<(), String>> {
    let mut simulation = Simulation::new(seed);
    simulation.network().set_conditions(weather.clone())?;
    let here = simulation.host("here");
    let there = match over {
        Over::Tcp => simulation.host("there"),
        Over::Unix => here.clone(),
    };
    let scene = Scene::new(&script.steps, calm, walked);
    if !calm {
        scene.expect_early_end();
    }
    let served = scene.clone();
    let factory = move || served.protocol(1);
    let server = simulation.run_until_complete(&there, async {
        match over {
            Over::Tcp => create_server(factory, ("10.0.0.2", 7)).await,
            Over::Unix => create_unix_server(factory, "/run/7").await,
        }
    })??;
    let made = scene.clone();
    let outcome = simulation.run_until_complete(&here, async {
        let connecting = move || made.protocol(0);
        let connected = match over {
            Over::Tcp => create_connection(connecting, ("10.0.0.2", 7))
                .await
                .map(drop),
            Over::Unix => create_unix_connection(connecting, "/run/7").await.map(drop),
        };
        match connected {
            Ok(()) => {
                scene
                    .play(&[handle(&here), handle(&there)], &SIMULATED)
                    .await
            }
            // A storm may refuse.
            Err(error) if calm => Err(format!("not connected: {error}")),
            Err(_) => Ok(()),
        }
    })?;
    server.close();
    server.abort_clients();
    simulation.run_until_complete(&there, server.wait_closed())??;
    Ok(
        outcome.and_then(|()| match here.descriptors() + there.descriptors() {
            0 => Ok(()),
            left => Err(format!("{left} sockets are left")),
        }),
    )
}

fn handle(host: &evloop::testing::Host) -> evloop::LoopHandle {
    (**host).clone()
}

fn in_all_weathers(over: Over, seeds: std::ops::Range<u64>) {
    let walked = Walked::default();
    explore(seeds, |simulation| {
        let seed = simulation.seed();
        let (weather, calm) = weather(seed);
        let script = script(&mut simulation.random());
        script.check(|script| {
            let outcome = simulated(seed, (over, &weather, calm), script, &walked);
            outcome.unwrap_or_else(|error| Err(error.to_string()))
        });
        Ok(())
    });
    walked.check(&["Life", "ReadSide", "WriteSide"], &UNSEEN);
}

/// The weather of a seed, and whether it breaks nothing.
fn weather(seed: u64) -> (Conditions, bool) {
    match seed % 3 {
        0 => (Conditions::new().buffer(20_000), true),
        1 => (Conditions::rough(), true),
        _ => (Conditions::storm(), false),
    }
}

fn script(random: &mut Random) -> Script<Step> {
    let mut script = Script::make(random, 60, Step::make);
    script.steps.retain(|step| !step.comes_too_early());
    script
}

#[test]
fn transports_over_tcp_are_as_their_model() {
    in_all_weathers(Over::Tcp, 0..900);
}

#[test]
fn transports_over_unix_sockets_are_as_their_model() {
    in_all_weathers(Over::Unix, 10_000..10_200);
}

/// Nothing here is simulated.
#[test]
fn transports_over_real_sockets_are_as_their_model() {
    let walked = Walked::default();
    for seed in 0..60 {
        script(&mut Random::new(seed)).check(|script| {
            let scene = Scene::new(&script.steps, true, &walked);
            let (served, made) = (scene.clone(), scene.clone());
            let mut event_loop = EventLoop::new().unwrap();
            event_loop.run_until_complete(async {
                let server = create_server(move || served.protocol(1), ("127.0.0.1", 0)).await;
                let server = server.unwrap();
                let port = server.sockets()[0].port().unwrap();
                let to = ("127.0.0.1", port);
                let connected = create_connection(move || made.protocol(0), to).await;
                drop(connected.unwrap());
                let handle = evloop::get_running_loop().unwrap();
                let outcome = scene.play(&[handle.clone(), handle], &IN_EARNEST).await;
                server.close();
                server.wait_closed().await.unwrap();
                outcome.map_err(|why| format!("seed {seed}: {why}"))
            })
        });
    }
}

fn streams_simulated(
    seed: u64,
    (weather, calm): (&Conditions, bool),
    script: &Script<streams::Step>,
) -> io::Result<Result<(), String>> {
    let mut simulation = Simulation::new(seed);
    simulation.network().set_conditions(weather.clone())?;
    let (here, there) = (simulation.host("here"), simulation.host("there"));
    let scene = streams::Scene::new(&script.steps, calm);
    let (served, limit) = (scene.clone(), limit(seed));
    let server = simulation.run_until_complete(&there, async {
        let began = move |reader, writer| served.begin(1, reader, writer);
        start_server(began, ("10.0.0.2", 7)).limit(limit).await
    })??;
    let outcome = simulation.run_until_complete(&here, async {
        match open_connection(("10.0.0.2", 7)).limit(limit).await {
            Ok((reader, writer)) => {
                scene.begin(0, reader, writer);
                scene
                    .play(&[handle(&here), handle(&there)], SIMULATED)
                    .await
            }
            // A storm may refuse.
            Err(error) if calm => Err(format!("not connected: {error}")),
            Err(_) => Ok(()),
        }
    })?;
    server.close();
    server.abort_clients();
    simulation.run_until_complete(&there, server.wait_closed())??;
    Ok(
        outcome.and_then(|()| match here.descriptors() + there.descriptors() {
            0 => Ok(()),
            left => Err(format!("{left} sockets are left")),
        }),
    )
}

/// How much a reader may hold.
fn limit(seed: u64) -> usize {
    [100, 5000, 64 * 1024][(seed / 3) as usize % 3]
}

#[test]
fn streams_are_as_promised() {
    explore(30_000..30_600, |simulation| {
        let seed = simulation.seed();
        let (weather, calm) = weather(seed);
        Script::make(&mut simulation.random(), 80, streams::Step::make).check(|script| {
            let outcome = streams_simulated(seed, (&weather, calm), script);
            outcome.unwrap_or_else(|error| Err(error.to_string()))
        });
        Ok(())
    });
}

#[test]
fn streams_on_real_sockets_are_as_promised() {
    for seed in 0..60 {
        Script::make(&mut Random::new(seed), 80, streams::Step::make).check(|script| {
            let scene = streams::Scene::new(&script.steps, true);
            let (served, limit) = (scene.clone(), limit(seed));
            let mut event_loop = EventLoop::new().unwrap();
            event_loop.run_until_complete(async {
                let began = move |reader, writer| served.begin(1, reader, writer);
                let server = start_server(began, ("127.0.0.1", 0)).limit(limit).await;
                let server = server.unwrap();
                let to = ("127.0.0.1", server.sockets()[0].port().unwrap());
                let (reader, writer) = open_connection(to).limit(limit).await.unwrap();
                scene.begin(0, reader, writer);
                let handle = evloop::get_running_loop().unwrap();
                let outcome = scene.play(&[handle.clone(), handle], IN_EARNEST).await;
                server.close();
                server.wait_closed().await.unwrap();
                outcome.map_err(|why| format!("seed {seed}: {why}"))
            })
        });
    }
}

/// On the server's loop. Whoever connects does so from the other one.
fn serve_simulated(
    seed: u64,
    (weather, calm): (&Conditions, bool),
    script: &Script<server::Step>,
    walked: &Walked,
) -> io::Result<Result<(), String>> {
    let mut simulation = Simulation::new(seed);
    simulation.network().set_conditions(weather.clone())?;
    let (here, there) = (simulation.host("here"), simulation.host("there"));
    let scene = server::Scene::new(1 + seed as usize % 4, calm, walked);
    let outcome = simulation.run_until_complete(&here, async {
        let server = bound_server(&scene, "10.0.0.1", seed).await?;
        let clients = handle(&there);
        io::Result::Ok(
            scene
                .play(&server, &clients, &script.steps, &SIMULATED)
                .await,
        )
    })??;
    simulation.run_until_complete(&here, evloop::sleep(Duration::from_secs(5)))??;
    Ok(
        outcome.and_then(|()| match here.descriptors() + there.descriptors() {
            0 => Ok(()),
            left => Err(format!("{left} sockets are left")),
        }),
    )
}

async fn bound_server(
    scene: &std::rc::Rc<server::Scene>,
    address: &str,
    seed: u64,
) -> io::Result<evloop::Server> {
    let scene = scene.clone();
    create_server(move || scene.protocol(), (address, 0))
        .max_connections(1 + seed as usize % 4)
        .start_serving(false)
        .await
}

#[test]
fn servers_are_as_their_model() {
    let walked = Walked::default();
    explore(20_000..20_400, |simulation| {
        let seed = simulation.seed();
        let (weather, calm) = match seed % 3 {
            0 => (Conditions::new(), true),
            // Somebody runs out of descriptors, and tries again.
            1 => (Conditions::rough().accept_failures(0.3), true),
            _ => (Conditions::storm(), false),
        };
        Script::make(&mut simulation.random(), 60, server::Step::make).check(|script| {
            let outcome = serve_simulated(seed, (&weather, calm), script, &walked);
            outcome.unwrap_or_else(|error| Err(error.to_string()))
        });
        Ok(())
    });
    walked.check(&["ServerLife"], &[]);
}

#[test]
fn servers_on_real_sockets_are_as_their_model() {
    let walked = Walked::default();
    for seed in 0..40 {
        Script::make(&mut Random::new(seed), 60, server::Step::make).check(|script| {
            let scene = server::Scene::new(1 + seed as usize % 4, true, &walked);
            let mut event_loop = EventLoop::new().unwrap();
            event_loop.run_until_complete(async {
                let server = bound_server(&scene, "127.0.0.1", seed).await.unwrap();
                let clients = evloop::get_running_loop().unwrap();
                let played = scene
                    .play(&server, &clients, &script.steps, &IN_EARNEST)
                    .await;
                played.map_err(|why| format!("seed {seed}: {why}"))
            })
        });
    }
}

const SIMULATED: Pace = Pace {
    tick: Duration::from_millis(1),
    // More than what nobody hears is given up after.
    patience: Duration::from_secs(1000),
    moment: Duration::from_secs(60),
};
const IN_EARNEST: Pace = Pace {
    tick: Duration::from_micros(50),
    patience: Duration::from_secs(20),
    moment: Duration::from_millis(50),
};
/// What nobody does here, or nobody can see.
const UNSEEN: [&str; 5] = ["Lent", "Lend", "HandOn", "SentAll", "Paused End"];
