//! A scenario is a world and those who act on it; the checker explores all that may become of it.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use crate::{
    actor::{Actor, Choice, Task},
    fault::Fault,
    promise::Promises,
    property,
    world::{Renaming, World},
};

/// More states than this are too many for one scenario.
const MAX_STATES: usize = 4_000_000;

pub(crate) struct Scenario {
    world: World,
    tasks: Vec<Task>,
    blobs: usize,
    losses: u8,
    fault: Option<Fault>,
    /// How actors ended, somewhere.
    outcomes: Mutex<BTreeSet<(usize, &'static str)>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) world: Arc<World>,
    pub(crate) actors: Vec<Arc<Actor>>,
    pub(crate) promises: Promises,
    /// How many more answers may be lost.
    losses: u8,
}

/// What an actor does next, by its place in the scenario.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Move(usize, Choice);

/// Up to the names of versions, and up to the order of actors: those with the same task are alike.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let mut actors: Vec<_> = self
            .actors
            .iter()
            .map(|actor| {
                let mut hasher = DefaultHasher::new();
                actor.hash(&mut Renaming::new(&mut hasher, &self.world));
                hasher.finish()
            })
            .collect();
        actors.sort_unstable();
        Renaming::new(hasher, &self.world).world();
        (actors, &self.promises, self.losses).hash(hasher);
    }
}

impl Model for Scenario {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        let mut world = self.world.clone();
        let actors: Vec<_> =
            self.tasks.iter().map(|task| Actor::new(*task, self.blobs, self.fault)).collect();
        world.data.extend(actors.iter().filter_map(Actor::own).map(str::to_owned));
        let promises = Promises::new(&actors);
        vec![State {
            world: Arc::new(world),
            actors: actors.into_iter().map(Arc::new).collect(),
            promises,
            losses: self.losses,
        }]
    }

    fn actions(&self, state: &State, moves: &mut Vec<Move>) {
        for (index, actor) in state.actors.iter().enumerate() {
            let choices = actor.choices(&state.world, state.losses > 0);
            moves.extend(choices.into_iter().map(|choice| Move(index, choice)));
        }
    }

    fn next_state(&self, state: &State, Move(index, choice): Move) -> Option<State> {
        let mut next = state.clone();
        if matches!(choice, Choice::Lose(_)) {
            next.losses -= 1;
        }
        let mut actor = state.actors[index].as_ref().clone();
        if !actor.started {
            next.promises.begun(index, &mut actor, &mut next.actors);
        }
        if !actor.act(&mut next.world, choice, self.fault, self.blobs) {
            return None;
        }
        next.promises.acted(index, &state.world, &next.world, &mut actor, &next.actors, self.blobs);
        if let Some(outcome) = actor.outcome {
            self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert((index, outcome));
        }
        next.actors[index] = Arc::new(actor);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::all()
    }
}

impl Scenario {
    /// Manifests refer to one blob, and no answer is lost.
    pub(crate) fn new<const N: usize>(world: World, tasks: [Task; N]) -> Self {
        let tasks = tasks.to_vec();
        Self { world, tasks, blobs: 1, losses: 0, fault: None, outcomes: Mutex::default() }
    }

    pub(crate) fn blobs(self, blobs: usize) -> Self {
        Self { blobs, ..self }
    }

    /// So many answers to writes are lost.
    pub(crate) fn losses(self, losses: u8) -> Self {
        Self { losses, ..self }
    }

    pub(crate) fn fault(self, fault: Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }

    pub(crate) fn blob_count(&self) -> usize {
        self.blobs
    }

    /// A scrub finds bytes to be bad: what has them is lost, whatever was promised.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.tasks.contains(&Task::SetAside)
    }

    /// One after the other, everyone to the end: what becomes of it, and how each ended.
    pub(crate) fn in_turn(self) -> (World, Vec<&'static str>) {
        let mut state = self.init_states().remove(0);
        loop {
            let mut moves = Vec::new();
            self.actions(&state, &mut moves);
            let Some(next) = moves.into_iter().next() else { break };
            match self.next_state(&state, next) {
                Some(next) => state = next,
                None => panic!("{:?} stands still", state.actors),
            }
        }
        let outcomes = state.actors.iter().filter_map(|actor| actor.outcome).collect();
        (state.world.as_ref().clone(), outcomes)
    }

    /// Every property holds in every state, and these outcomes (by the actor's place) are among those that occur.
    pub(crate) fn holds(self, name: &str, occurs: &[(usize, &'static str)]) {
        let checker = self.explored();
        if let Some((property, path)) = checker.discoveries().into_iter().next() {
            let last = path.last_state().clone();
            panic!("{name}: {property} does not hold after {:#?}\n{last:#?}", path.into_actions());
        }
        let states = checker.unique_state_count();
        assert!(states < MAX_STATES, "{name}: {states} states are too many");
        let outcomes = checker.model().outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        println!("{states:>9} states hold: {name}");
        for wanted in occurs {
            assert!(outcomes.contains(wanted), "{name}: {wanted:?} does not occur, only {outcomes:?}");
        }
    }

    /// The model finds out that this property does not hold.
    pub(crate) fn breaks(self, property: &str) {
        let fault = self.fault;
        let checker = self.explored();
        let states = checker.unique_state_count();
        let discoveries = checker.discoveries();
        match discoveries.get(property) {
            Some(path) => {
                let steps = path.clone().into_actions().len();
                println!(
                    "{fault:?}: after {steps} operations and {states} states, it is false that {property}"
                );
            }
            None => panic!("{fault:?}: {property}: not refuted in {states} states, only {discoveries:?}"),
        }
    }

    fn explored(self) -> impl stateright::Checker<Self> {
        self.checker()
            .finish_when(HasDiscoveries::AnyFailures)
            .target_state_count(8 * MAX_STATES)
            .spawn_bfs()
            .join()
    }
}
