//! Things that exist for as long as somebody uses them, found by the task that they belong to.

use forebay_domain::task::TaskId;
use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard},
};

type Map<T> = HashMap<TaskId, (usize, Arc<T>)>;

/// Cheap to clone; all clones are one.
#[derive(Debug)]
pub(crate) struct Shared<T>(Arc<Mutex<Map<T>>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Default> Shared<T> {
    /// That of this task, which is made where nobody uses it yet.
    pub(crate) fn of(&self, id: &TaskId) -> Use<T> {
        let mut map = self.map();
        let (users, thing) = map.entry(id.clone()).or_default();
        *users += 1;
        Use {
            of: self.clone(),
            id: id.clone(),
            thing: thing.clone(),
        }
    }
}

impl<T> Shared<T> {
    fn map(&self) -> MutexGuard<'_, Map<T>> {
        self.0.lock().expect("nobody panics while holding it")
    }

    pub(crate) fn get(&self, id: &TaskId) -> Option<Arc<T>> {
        self.map().get(id).map(|(_, thing)| thing.clone())
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.map().values().map(|(_, thing)| thing.clone()).collect()
    }
}

/// Somebody uses it.
#[derive(Debug)]
pub(crate) struct Use<T> {
    of: Shared<T>,
    id: TaskId,
    thing: Arc<T>,
}

impl<T> Deref for Use<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}

impl<T> Drop for Use<T> {
    fn drop(&mut self) {
        let mut map = self.of.map();
        if let Some((users, _)) = map.get_mut(&self.id) {
            *users -= 1;
            if *users == 0 {
                map.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_for_all_who_use_it_and_gone_with_the_last() {
        let shared = Shared::<Mutex<u32>>::default();
        let id = TaskId::try_from("a").unwrap();
        let (one, other) = (shared.of(&id), shared.of(&id));
        *one.lock().unwrap() = 7;
        assert_eq!(*other.lock().unwrap(), 7);
        drop(one);
        assert!(shared.get(&id).is_some());
        drop(other);
        assert!(shared.get(&id).is_none());
    }
}
