//! What users notice, on a real cluster. See the library for how it is done.

mod devices;
