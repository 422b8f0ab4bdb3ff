//! The benchmark command.

mod results;

fn main() {
    let _ = results::Run::default();
}
