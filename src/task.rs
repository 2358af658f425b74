//! A benchmark problem as plain data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

/// The name of a problem, unique in its dataset: `HumanEval/3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(String);

impl TaskId {
    /// The id as it stands in the dataset.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<S: Into<String>> From<S> for TaskId {
    fn from(id: S) -> Self {
        TaskId(id.into())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One problem: what the model is shown, and how its answer is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Unique in the dataset.
    pub id: TaskId,
    /// Code that the program begins with. The format `raw` shows it, byte for byte, to be continued.
    pub prompt: String,
    /// The task in words, where the benchmark puts it so: the answer is a whole program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// The dataset's own solution, in the place of a completion.
    pub canonical: Option<String>,
    /// What a right answer must satisfy.
    pub check: Check,
    /// A second bar beyond `check`: the plus tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plus: Option<Check>,
    /// What the dataset's own solution is known to need, where that is more than the suite's limits allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
}

/// What a right program needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// Processor time of one pass over the tests.
    pub cpu: Duration,
    /// Address space, the reference beside the program included.
    pub memory_bytes: u64,
}

/// A task in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Question {
    /// What is asked.
    pub text: String,
    /// Asserts that may be shown; without one the function's name cannot be known.
    pub tests: Vec<String>,
    /// What stands beside the question, such as examples.
    pub input: String,
}

/// How a program is checked. Appended to prompt and completion by [`Program::assemble`](crate::program::Program::assemble).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Python text that defines `check(candidate)`, called with the function named `entry_point`.
    Function {
        /// Defines `check`.
        test: String,
        /// The function under test.
        entry_point: String,
    },
    /// Python statements, run in order.
    Asserts(Vec<String>),
    /// Inputs and the outputs that go with them. The answer is a whole program that reads the one and prints the other.
    #[serde(serialize_with = "tests_as_a_list")]
    Stdio(Arc<[StdioTest]>),
}

/// What a program is given on stdin, and what it must print.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct StdioTest {
    /// The whole of stdin.
    pub input: String,
    /// What stdout must agree with, see [`output::agree`](crate::output::agree). It is never handed to the program.
    pub output: String,
}

fn tests_as_a_list<S: Serializer>(tests: &Arc<[StdioTest]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tests.iter())
}

impl Task {
    /// A problem checked by plain `assert` statements.
    ///
    /// ```
    /// use passk::Task;
    /// let task = Task::asserts("squares/0", "def square(x):\n    \"\"\"Return x squared.\"\"\"\n", ["assert square(3) == 9"]);
    /// assert_eq!(task.id.as_str(), "squares/0");
    /// ```
    pub fn asserts<S: Into<String>>(
        id: impl Into<TaskId>,
        prompt: impl Into<String>,
        asserts: impl IntoIterator<Item = S>,
    ) -> Task {
        Task {
            id: id.into(),
            prompt: prompt.into(),
            question: None,
            canonical: None,
            check: Check::Asserts(asserts.into_iter().map(Into::into).collect()),
            plus: None,
            needs: None,
        }
    }

    /// The same problem with a reference solution, which `--samples canonical` judges.
    pub fn with_canonical(self, completion: impl Into<String>) -> Task {
        Task { canonical: Some(completion.into()), ..self }
    }
}
