//! What is made from the list of parts, which stands at the end of `part/mod.rs`.

/// Makes, from the list, the fields that hold all halves, the enums of what they say to each
/// other, and the calls that reach one or all of them.
macro_rules! parts {
    ($($field:ident: $part:ty = $number:literal,)*) => {
        $(const _: () = assert!(
            $number != crate::wire::datagram::MEMBERSHIP && $number != crate::wire::datagram::PIECES,
            "membership has this part's number on the wire: take another"
        );)*

        /// The settings of all parts.
        #[derive(Clone, Debug, Default)]
        pub struct PartSettings {
            $(#[doc = concat!("Of `", stringify!($field), "`.")]
            pub $field: <$part as Part>::Settings,)*
        }

        impl PartSettings {
            /// The parts' sections of a configuration.
            pub fn new(config: &NodeConfig) -> Self {
                Self { $($field: config.$field.clone(),)* }
            }
        }

        /// What the faces of all parts share on a node's application threads.
        pub struct Faces {
            $(#[doc = concat!("Of `", stringify!($field), "`.")]
            pub $field: <$part as Part>::Face,)*
        }

        impl Faces {
            /// Of a node with so many workers.
            pub fn new(workers: usize, settings: &PartSettings) -> Self {
                Self { $($field: <$part>::face(workers, &settings.$field),)* }
            }
        }

        /// What control's halves publish for workers' halves.
        #[derive(Clone, Default)]
        pub struct Facts {
            $(#[doc = concat!("Of `", stringify!($field), "`.")]
            pub $field: Arc<<<$part as Part>::Worker as WorkerPart>::Facts>,)*
        }

        /// An order to one part's half on a worker.
        #[allow(non_camel_case_types)]
        pub enum WorkerOrder {
            $(#[doc = concat!("To `", stringify!($field), "`.")]
            $field(<<$part as Part>::Worker as WorkerPart>::Order),)*
        }

        /// What one part's half on a worker tells its half in control.
        #[allow(non_camel_case_types)]
        #[derive(Debug)]
        pub enum ControlReport {
            $(#[doc = concat!("From `", stringify!($field), "`.")]
            $field(<<$part as Part>::Worker as WorkerPart>::Report),)*
        }

        /// An order of a face to one part's half in control.
        #[allow(non_camel_case_types)]
        pub enum ControlOrder {
            $(#[doc = concat!("To `", stringify!($field), "`.")]
            $field(<<$part as Part>::Control as ControlPart>::Order),)*
        }

        $(
            impl From<<<$part as Part>::Worker as WorkerPart>::Order> for WorkerOrder {
                fn from(order: <<$part as Part>::Worker as WorkerPart>::Order) -> Self {
                    Self::$field(order)
                }
            }

            impl From<<<$part as Part>::Worker as WorkerPart>::Report> for ControlReport {
                fn from(report: <<$part as Part>::Worker as WorkerPart>::Report) -> Self {
                    Self::$field(report)
                }
            }

            impl From<<<$part as Part>::Control as ControlPart>::Order> for ControlOrder {
                fn from(order: <<$part as Part>::Control as ControlPart>::Order) -> Self {
                    Self::$field(order)
                }
            }
        )*

        /// The halves of all parts on one worker. Each call goes to one of them, or to all in the
        /// order of the list; effects gather in `effects`, which the worker carries out.
        pub struct WorkerHalves {
            /// What is to be done.
            pub effects: WorkerEffects<ControlReport>,
            $(#[doc = concat!("Of `", stringify!($field), "`.")]
            pub $field: <$part as Part>::Worker,)*
        }

        impl WorkerHalves {
            /// Halves that know nothing yet.
            pub fn new(me: NodeRef, index: WorkerIndex, settings: &PartSettings) -> Self {
                Self {
                    effects: WorkerEffects::default(),
                    $($field: <$part>::worker(me, index, &settings.$field),)*
                }
            }

            /// A part's frame came in. Returns false when no part has its number: a newer peer may
            /// know more parts, and loses nothing but this frame.
            ///
            /// # Errors
            /// As [`WorkerPart::frame`].
            pub fn frame(
                &mut self,
                part: PartId,
                from: LinkRef,
                op: u8,
                body: &[u8],
            ) -> Result<bool, WireError> {
                match part.0 {
                    $($number => {
                        let mut out = Outlet::new(part, &mut self.effects);
                        self.$field.frame(from, op, body, &mut out)?;
                        Ok(true)
                    })*
                    _ => Ok(false),
                }
            }

            /// A link opened or closed.
            pub fn link(&mut self, link: LinkRef, change: LinkChange) {
                $(
                    let mut out = Outlet::new(PartId($number), &mut self.effects);
                    self.$field.link(link, change, &mut out);
                )*
            }

            /// A routee of this worker started, was replaced or withdrawn.
            pub fn routee(&mut self, instance: InstanceId, change: RouteeChange) {
                $(
                    let mut out = Outlet::new(PartId($number), &mut self.effects);
                    self.$field.routee(instance, change, &mut out);
                )*
            }

            /// Control's halves published anew.
            pub fn told(&mut self, facts: &Facts) {
                $(
                    let mut out = Outlet::new(PartId($number), &mut self.effects);
                    self.$field.told(&facts.$field, &mut out);
                )*
            }

            /// An order to one half.
            pub fn order(&mut self, order: WorkerOrder) {
                match order {
                    $(WorkerOrder::$field(order) => {
                        let mut out = Outlet::new(PartId($number), &mut self.effects);
                        self.$field.order(order, &mut out);
                    })*
                }
            }

            /// A part's time has come.
            pub fn timer(&mut self, part: PartId, token: u64) {
                match part.0 {
                    $($number => {
                        let mut out = Outlet::new(part, &mut self.effects);
                        self.$field.timer(token, &mut out);
                    })*
                    _ => {}
                }
            }

            /// A part's frame found no room on the link to a peer.
            pub fn crowded_out(
                &mut self,
                part: PartId,
                peer: (NodeRef, WorkerIndex),
                op: u8,
                body: &[u8],
            ) {
                match part.0 {
                    $($number => {
                        let mut out = Outlet::new(part, &mut self.effects);
                        self.$field.crowded_out(peer, op, body, &mut out);
                    })*
                    _ => {}
                }
            }

            /// A part's frame was dropped since the link to a peer cannot be opened now.
            pub fn cut_off(
                &mut self,
                part: PartId,
                peer: (NodeRef, WorkerIndex),
                op: u8,
                body: &[u8],
            ) {
                match part.0 {
                    $($number => {
                        let mut out = Outlet::new(part, &mut self.effects);
                        self.$field.cut_off(peer, op, body, &mut out);
                    })*
                    _ => {}
                }
            }

            /// Whether no half keeps a leaving node.
            pub fn is_drained(&self) -> bool {
                self.effects.is_empty() $(&& self.$field.is_drained())*
            }

        }

        /// Which of all counters a part's counter is.
        pub fn counter_place(part: PartId, counter: usize) -> Option<usize> {
            let (name, own) = match part.0 {
                $($number => (<$part as Part>::NAME, <$part as Part>::COUNTERS),)*
                _ => return None,
            };
            (counter < own.len()).then(|| list::first_of(name, COUNTERS) + counter)
        }

        /// All counters: the part's name and the counter's.
        pub const COUNTERS: &[(&str, &str)] = &{
            const COUNT: usize = 0 $(+ <$part as Part>::COUNTERS.len())*;
            let mut all = [("", ""); COUNT];
            let mut at = 0;
            $(
                let mut of_part = 0;
                while of_part < <$part as Part>::COUNTERS.len() {
                    all[at] = (<$part as Part>::NAME, <$part as Part>::COUNTERS[of_part]);
                    at += 1;
                    of_part += 1;
                }
            )*
            assert!(at == COUNT);
            all
        };

        /// The halves of all parts in control, with the facts they published last.
        pub struct ControlHalves {
            /// What is to be done.
            pub effects: ControlEffects<WorkerOrder>,
            facts: Facts,
            $($field: <$part as Part>::Control,)*
        }

        impl ControlHalves {
            /// Halves that know nothing yet.
            pub fn new(me: NodeRef, workers: u16, settings: &PartSettings) -> Self {
                Self {
                    effects: ControlEffects::default(),
                    facts: Facts::default(),
                    $($field: <$part>::control(me, workers, &settings.$field),)*
                }
            }

            /// What was published last.
            pub fn facts(&self) -> &Facts {
                &self.facts
            }

            /// The view changed.
            pub fn view(&mut self, view: &Arc<View>, events: &[MemberEvent]) {
                $(
                    let facts = &mut self.facts.$field;
                    let mut out = ControlOutlet::new(PartId($number), facts, &mut self.effects);
                    self.$field.view(view, events, &mut out);
                )*
            }

            /// An order of a face.
            pub fn order(&mut self, order: ControlOrder) {
                match order {
                    $(ControlOrder::$field(order) => {
                        let facts = &mut self.facts.$field;
                        let mut out =
                            ControlOutlet::new(PartId($number), facts, &mut self.effects);
                        self.$field.order(order, &mut out);
                    })*
                }
            }

            /// A worker's half said something.
            pub fn report(&mut self, worker: WorkerIndex, report: ControlReport) {
                match report {
                    $(ControlReport::$field(report) => {
                        let facts = &mut self.facts.$field;
                        let mut out =
                            ControlOutlet::new(PartId($number), facts, &mut self.effects);
                        self.$field.report(worker, report, &mut out);
                    })*
                }
            }

            /// Whether this build has a part of this number.
            pub fn knows(&self, part: PartId) -> bool {
                matches!(part.0, $($number)|*)
            }

            /// What another member's half gossips is news.
            pub fn heard(&mut self, part: PartId, from: NodeRef, key: u32, bytes: &[u8]) {
                match part.0 {
                    $($number => {
                        let facts = &mut self.facts.$field;
                        let mut out = ControlOutlet::new(part, facts, &mut self.effects);
                        self.$field.heard(from, key, bytes, &mut out);
                    })*
                    _ => {}
                }
            }

            /// Another node's half said something.
            pub fn message(&mut self, part: PartId, from: NodeRef, op: u8, bytes: &[u8]) {
                match part.0 {
                    $($number => {
                        let facts = &mut self.facts.$field;
                        let mut out = ControlOutlet::new(part, facts, &mut self.effects);
                        self.$field.message(from, op, bytes, &mut out);
                    })*
                    _ => {}
                }
            }

            /// Some of what a part said to another node may be lost.
            pub fn lost(&mut self, part: PartId, to: NodeRef) {
                match part.0 {
                    $($number => {
                        let facts = &mut self.facts.$field;
                        let mut out = ControlOutlet::new(part, facts, &mut self.effects);
                        self.$field.lost(to, &mut out);
                    })*
                    _ => {}
                }
            }

            /// A part's time has come.
            pub fn timer(&mut self, part: PartId, token: u64) {
                match part.0 {
                    $($number => {
                        let facts = &mut self.facts.$field;
                        let mut out = ControlOutlet::new(part, facts, &mut self.effects);
                        self.$field.timer(token, &mut out);
                    })*
                    _ => {}
                }
            }
        }
    };
}

pub(super) use parts;

/// Where a part's counters begin among all.
pub(super) const fn first_of(part: &str, counters: &[(&str, &str)]) -> usize {
    let mut at = 0;
    while at < counters.len() {
        if same(counters[at].0, part) {
            return at;
        }
        at += 1;
    }
    counters.len()
}

const fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}
