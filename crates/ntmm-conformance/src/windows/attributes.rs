//! OBJECT_ATTRIBUTES of a case as a call captures them.

use std::collections::BTreeMap;

use ntmm::NtStatus;
use ntmm::nt::Captured;
use ntmm::nt::section::{ObjectAttributes, ObjectName};
use ntmm_machine::Hardware;

use super::Windows;
use super::handles::Object;
use super::parameters::probe;
use crate::structure::size_of;
use crate::system::Refusal;
use crate::value::{Arguments, Pointer, Value, unfit};

/// A name with its characters.
#[derive(Clone, Debug)]
struct Name {
    length: u16,
    characters: Captured<Vec<u16>>,
}

/// Object attributes with what they point to.
#[derive(Clone, Debug)]
pub struct CapturedAttributes {
    length: u64,
    root: Option<Result<usize, NtStatus>>,
    name: Captured<Option<Name>>,
    attributes: u32,
}

impl CapturedAttributes {
    /// The attributes as a call takes them.
    pub fn borrow(&self) -> ObjectAttributes<'_, usize> {
        let name = match &self.name {
            Err(status) => Err(*status),
            Ok(None) => Ok(None),
            Ok(Some(Name { length, characters })) => Ok(Some(ObjectName {
                length: *length,
                buffer: match characters {
                    Ok(characters) => Ok(characters),
                    Err(status) => Err(*status),
                },
            })),
        };
        ObjectAttributes { length: self.length, root: self.root, name, attributes: self.attributes }
    }
}

/// Attributes that a call borrows; none for the null pointer.
pub fn borrowed(
    captured: &Captured<Option<CapturedAttributes>>,
) -> Captured<Option<ObjectAttributes<'_, usize>>> {
    match captured {
        Err(status) => Err(*status),
        Ok(attributes) => Ok(attributes.as_ref().map(CapturedAttributes::borrow)),
    }
}

impl<M: Hardware> Windows<M> {
    /// The argument ObjectAttributes; none for a null pointer.
    pub(super) fn object_attributes(
        &self,
        arguments: &Arguments,
    ) -> Result<Captured<Option<CapturedAttributes>>, Refusal> {
        const NAME: &str = "ObjectAttributes";
        match arguments.get(NAME) {
            None | Some(Value::Nothing | Value::Pointer(Pointer::Null) | Value::Integer(0)) => {
                Ok(Ok(None))
            }
            Some(Value::Pointer(pointer)) => Ok(probe(*pointer).map(|()| None)),
            Some(Value::Structure(fields)) => {
                self.attributes_of(fields, arguments).map(|attributes| Ok(Some(attributes)))
            }
            Some(other) => Err(unfit(NAME, other)),
        }
    }

    fn attributes_of(
        &self,
        fields: &BTreeMap<String, Value>,
        arguments: &Arguments,
    ) -> Result<CapturedAttributes, Refusal> {
        let width = arguments.width;
        let number = |name| match fields.get(name) {
            None | Some(Value::Nothing) => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(width.truncate(*number))),
            Some(other) => Err(unfit(name, other)),
        };
        let usual = size_of("OBJECT_ATTRIBUTES", width).unwrap_or_default();
        let root = number("RootDirectory")?.filter(|&handle| handle != 0);
        let root = root.map(|handle| match self.handles.get(handle)? {
            Object::Directory(number) => Ok(number),
            _ => Err(NtStatus::OBJECT_TYPE_MISMATCH),
        });
        Ok(CapturedAttributes {
            length: number("Length")?.unwrap_or(usual),
            root,
            name: name_of(fields.get("ObjectName"))?,
            attributes: number("Attributes")?.unwrap_or(0) as u32,
        })
    }
}

fn text_name(text: &str) -> Name {
    let characters: Vec<u16> = text.encode_utf16().collect();
    Name { length: (characters.len() * 2) as u16, characters: Ok(characters) }
}

fn name_of(value: Option<&Value>) -> Result<Captured<Option<Name>>, Refusal> {
    const NAME: &str = "ObjectName";
    match value {
        None | Some(Value::Nothing | Value::Pointer(Pointer::Null)) => Ok(Ok(None)),
        Some(Value::Text(text)) => Ok(Ok(Some(text_name(text)))),
        Some(Value::Pointer(pointer)) => Ok(probe(*pointer).map(|()| None)),
        Some(Value::Structure(fields)) => {
            let Some(Value::Integer(length)) = fields.get("Length") else {
                return Err(unfit(NAME, &Value::Structure(fields.clone())));
            };
            let length = *length as u16;
            let room = usize::from(length / 2);
            let characters = match (fields.get("Buffer"), fields.get("fill")) {
                (Some(Value::Pointer(pointer)), _) => probe(*pointer).map(|()| vec![0; room]),
                (Some(Value::Text(text)), _) => {
                    let mut characters: Vec<u16> = text.encode_utf16().collect();
                    characters.resize(room, 0);
                    Ok(characters)
                }
                (_, Some(Value::Text(fill))) => {
                    Ok(fill.encode_utf16().cycle().take(room).collect())
                }
                (None, None) => Ok(vec![0; room]),
                (Some(other), _) | (_, Some(other)) => return Err(unfit(NAME, other)),
            };
            Ok(Ok(Some(Name { length, characters })))
        }
        Some(other) => Err(unfit(NAME, other)),
    }
}
