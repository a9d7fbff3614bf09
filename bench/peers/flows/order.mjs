// order.mjs - the order of bench/apps/processes, its three steps and its result, for the peers.
//
// How to use: a peer makes each of its flows from makeOrder, lets it call the three handlers in the
// order that `steps` has, and gives what they returned to makeResult; checkResult tells whether the
// flow has done them all.

/** The input of a flow, the same bytes of JSON as in bench/apps/processes. */
export function makeOrder(number) {
  return { order_id: `o${number}`, items: [1, 2, 3], amount: 99.5, address: "12 High St" };
}

/** What each step does; as plain steps and as handlers that are sent a command. */
export const handlers = {
  ReserveInventory: (command) => ({ reservation_id: `R${command.order_id}` }),
  ProcessPayment: (command) => ({
    transaction_id: `T${command.order_id}`,
    amount: command.amount,
  }),
  CreateShipment: (command) => ({ tracking: `S${command.order_id}` }),
};

/** The steps in their order: the name of the step, its handler, and what that is given. */
export const steps = [
  {
    name: "reserve_inventory",
    handler: "ReserveInventory",
    command: (order) => ({ order_id: order.order_id, items: order.items }),
  },
  {
    name: "process_payment",
    handler: "ProcessPayment",
    command: (order) => ({ order_id: order.order_id, amount: order.amount }),
  },
  {
    name: "create_shipment",
    handler: "CreateShipment",
    command: (order) => ({ order_id: order.order_id, address: order.address }),
  },
];

/** The result of a flow. */
export function makeResult(order, [inventory, payment, shipment]) {
  return {
    order_id: order.order_id,
    inventory_id: inventory.reservation_id,
    payment_id: payment.transaction_id,
    shipment_id: shipment.tracking,
  };
}

/** Throws when a result is not that of the flow of this number. */
export function checkResult(number, result) {
  if (result?.shipment_id !== `So${number}`) {
    throw new Error(`flow ${number} returned ${JSON.stringify(result)}`);
  }
}
