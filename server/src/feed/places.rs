//! The places for clients, of which one user cannot take all.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Maximum number of clients: two for each worker of a proxy on a large machine, while it reloads.
pub(super) const MAX_CLIENTS: usize = 1024;
/// Maximum number of clients of one user, so that others have places.
const MAX_CLIENTS_OF_USER: usize = MAX_CLIENTS / 2;

/// The clients by user.
#[derive(Default)]
pub(super) struct ClientPlaces {
    of_users: RefCell<BTreeMap<u32, usize>>,
    /// Users whose limit was logged.
    logged: RefCell<BTreeSet<u32>>,
}

/// The place of a client of a user while it is connected.
pub(super) struct ClientPlace {
    places: Rc<ClientPlaces>,
    user: u32,
}

impl ClientPlaces {
    /// Takes a place for a client of a user; `None` if the user has too many.
    pub(super) fn enter(self: &Rc<Self>, user: u32) -> Option<ClientPlace> {
        let mut of_users = self.of_users.borrow_mut();
        let clients = of_users.entry(user).or_default();
        if *clients >= MAX_CLIENTS_OF_USER {
            self.log(user);
            return None;
        }
        *clients += 1;
        Some(ClientPlace { places: Rc::clone(self), user })
    }

    /// Logs the limit of a user, once.
    fn log(&self, user: u32) {
        if self.logged.borrow_mut().insert(user) {
            tracing::warn!(
                "user {user} has {MAX_CLIENTS_OF_USER} clients of the feed, the limit of one user: \
                 further ones are disconnected; stop those of its processes that are not needed"
            );
        }
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut of_users = self.places.of_users.borrow_mut();
        let Some(clients) = of_users.get_mut(&self.user) else { return };
        *clients = clients.saturating_sub(1);
        if *clients == 0 {
            of_users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_has_half_of_the_places() {
        let places = Rc::new(ClientPlaces::default());
        let enter = |user| places.enter(user);
        let mut of_one: Vec<_> = (0..MAX_CLIENTS_OF_USER).filter_map(|_| enter(33)).collect();
        assert_eq!(of_one.len(), 512);
        assert!(enter(33).is_none() && enter(33).is_none());
        assert_eq!(places.logged.borrow().len(), 1);
        let of_other = enter(0);
        assert!(of_other.is_some());
        of_one.pop();
        assert!(enter(33).is_some());
        drop((of_one, of_other));
        assert!(places.of_users.borrow().is_empty());
    }
}
